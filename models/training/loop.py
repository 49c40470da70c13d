"""The loop in which any net is trained."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from models.errors import TrainingError
from models.training.checkpoint import Checkpoint
from models.training.tensorflow import keras, tf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from models.recipe import Fit

    Floats: TypeAlias = NDArray[np.float32]

    # Told after each epoch: its number, from 1 on; the loss in training and in validation.
    OnEpoch: TypeAlias = Callable[[int, float, float], None]

# The longest step that one batch may lead to, as the norm of the gradient: windows with an outlier have larger ones.
_MAX_NORM: Final = 1.0
_VALID_BATCH: Final = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """What goes into a net and what should come out: float32, as many of one as of the other, scaled."""

    x: Floats
    y: Floats


def fit_net(  # noqa: PLR0913 - each is one thing to say
    net: keras.Model,
    loss: Callable[[Any, Any], Any],
    train: Pairs,
    valid: Pairs,
    fit: Fit,
    *,
    seed: int,
    place: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> NDArray[np.float64]:
    """Trains the net until it no longer gets better, and leaves it at its best, which may be how it came.

    What is returned has the loss in training and validation, before the first epoch and after each [1 + epochs, 2].
    The order of an epoch's windows depends on the seed and the epoch alone, and after each the whole state is kept in
    `place`: one that was killed goes on there, and ends as if it had not been. Raises TrainingError when the loss is
    no longer a number.
    """
    run = _Run(net, loss, fit, train)
    of = _digest(net, train, valid, fit, seed)
    if place and (kept := Checkpoint.load(place, of)):
        run.restore(kept)
        history, best = kept.history, kept.best
    else:
        history, best = np.array([[run.loss_of(train), run.loss_of(valid)]]), net.get_weights()
        if not np.isfinite(history).all():
            raise TrainingError(
                f"the loss before the first epoch is {history[0, 0]:g}, {history[0, 1]:g} in validation"
            )
    while not _is_over(history, fit):
        epoch = len(history)
        losses = run.epoch(train, epoch, seed), run.loss_of(valid)
        if not all(map(math.isfinite, losses)):
            raise TrainingError(f"the loss of epoch {epoch} is {losses[0]:g}, {losses[1]:g} in validation")
        if losses[1] < history[:, 1].min():
            best = net.get_weights()
        history = np.vstack([history, losses])
        if place:
            Checkpoint(of, net.get_weights(), run.optimizer_values(), best, history).save(place)
        if on_epoch:
            on_epoch(epoch, *losses)
    net.set_weights(best)
    return history


def _is_over(history: NDArray[np.float64], fit: Fit) -> bool:
    epochs, best_epoch = len(history) - 1, int(history[:, 1].argmin())
    return epochs >= fit.epochs or epochs - best_epoch >= fit.patience


class _Run:
    """A net with its optimizer."""

    def __init__(self, net: keras.Model, loss: Callable[[Any, Any], Any], fit: Fit, like: Pairs) -> None:
        self._net, self._loss, self._fit = net, loss, fit
        self._adam = keras.optimizers.Adam(fit.learning_rate, global_clipnorm=_MAX_NORM, jit_compile=False)
        self._adam.build(net.trainable_variables)
        # For any number of windows, so that it is traced once and not again for an epoch's last ones.
        signature = [tf.TensorSpec((None, *each.shape[1:]), tf.float32) for each in (like.x, like.y)]
        self._step = tf.function(self._learn, signature, autograph=False)
        self._test = tf.function(lambda x, y: loss(y, net(x, training=False)), signature, autograph=False)

    def epoch(self, train: Pairs, number: int, seed: int) -> float:
        """Each window once; the mean loss on the way. The steps get smaller along half a cosine."""
        share = 0.5 * (1 + math.cos(math.pi * (number - 1) / self._fit.epochs))
        self._adam.learning_rate.assign(self._fit.learning_rate * share)
        order = np.random.default_rng((seed, number)).permutation(len(train.x))
        losses = [self._step(train.x[chosen], train.y[chosen]) for chosen in _batches(order, self._fit.batch)]
        return float(np.mean([float(each) for each in losses]))

    def loss_of(self, valid: Pairs) -> float:
        """The mean loss over the windows, without learning."""
        chosen = list(_batches(np.arange(len(valid.x)), _VALID_BATCH))
        losses = [float(self._test(valid.x[each], valid.y[each])) for each in chosen]
        return float(np.average(losses, weights=[len(each) for each in chosen]))

    def optimizer_values(self) -> list[NDArray[np.generic]]:
        return [each.numpy() for each in self._adam.variables]

    def restore(self, kept: Checkpoint) -> None:
        self._net.set_weights(kept.weights)
        for variable, value in zip(self._adam.variables, kept.optimizer, strict=True):
            variable.assign(value)

    def _learn(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self._loss(y, self._net(x, training=True))
        weights = self._net.trainable_variables
        self._adam.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (order[begin : begin + size] for begin in range(0, len(order), size))


def _digest(net: keras.Model, train: Pairs, valid: Pairs, fit: Fit, seed: int) -> str:
    """Of everything that the weights depend on."""
    digest = hashlib.sha256(repr((net.to_json(), fit, seed, tf.__version__)).encode())
    for array in (train.x, train.y, valid.x, valid.y, *net.get_weights()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
