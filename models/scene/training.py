"""A camera's samples to a net, and to the score above which a picture is an anomaly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.anomaly.threshold import least_rate, threshold_of
from models.errors import TrainingError
from models.scene.net import Scale, SceneNet, inner, whole
from models.scene.scoring import score_of
from models.training.tensorflow import keras, seeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    from models.anomaly.threshold import Threshold
    from models.scene.fit import SceneFit
    from models.scene.samples import Samples

    # Epochs done, and the losses of training and validation.
    OnEpoch = Callable[[int, float, float], None]

LEAST_SAMPLES: Final = 60
# The newest samples set the threshold; a few between are left out, which look like their neighbours.
_HELD_SHARE: Final = 0.4
_GAP: Final = 5
_BATCH: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of it: `history` float64 [epochs, 2], the losses of training and validation."""

    net: SceneNet
    threshold: Threshold
    learnt: Samples
    held: Samples
    history: NDArray[np.float64]


def parted(samples: Samples) -> tuple[Samples, Samples]:
    """What is learnt from, and what is held back: split by time. Raises TrainingError where that is too little."""
    if len(samples) < LEAST_SAMPLES:
        raise TrainingError(f"{samples.camera}: {len(samples)} samples: at least {LEAST_SAMPLES} are needed")
    cut = math.floor(len(samples) * (1 - _HELD_SHARE))
    return samples[: cut - _GAP], samples[cut:]


def train_scene(samples: Samples, fit: SceneFit, *, seed: int, on_epoch: OnEpoch = lambda *_: None) -> Trained:
    """The net of a camera, and its threshold; raises TrainingError."""
    seeded(seed)
    learnt, held = parted(samples)
    scale = Scale.learnt(learnt.pictures)
    core = inner()
    history = _fitted(core, scale.seen(learnt.pictures), scale.seen(held.pictures), fit, on_epoch)
    model = whole(core, scale, learnt.pictures)
    errors = SceneNet(model, 0.0).errors(held.pictures)
    if not np.isfinite(errors).all():
        raise TrainingError(f"{samples.camera}: the net came to nothing: its errors are not finite")
    net = SceneNet(model, float(np.median(errors)))
    rate = max(fit.false_alarms, least_rate(len(held)))
    return Trained(net, threshold_of(score_of(errors, net.usual), len(held), rate), learnt, held, history)


def _fitted(core: Any, learnt: Any, held: Any, fit: SceneFit, on_epoch: OnEpoch) -> NDArray[np.float64]:  # noqa: ANN401 - Keras is untyped
    batches = -(-len(learnt) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(fit.learning_rate, fit.epochs * batches)
    # Without a bound on a step one in three trainings ends in a net that draws the mean.
    core.compile(keras.optimizers.Adam(rate, clipnorm=1.0), "mse")
    told = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: on_epoch(epoch + 1, logs["loss"], logs["val_loss"])
    )
    fitted = core.fit(
        learnt,
        learnt,
        batch_size=_BATCH,
        epochs=fit.epochs,
        validation_data=(held, held),
        callbacks=[told],
        verbose=0,
    )
    return np.stack([fitted.history["loss"], fitted.history["val_loss"]], axis=1)
