"""The scores of the net, of several trainings, and of what it is compared with: on normal windows and on the test."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from models.anomaly.reference import PrincipalComponents, RobustZ
from models.anomaly.scaling import scaler_of
from models.evaluation.pool import Job, run_all
from models.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.anomaly.parts import Past, Test
    from models.evaluation.pool import Tell
    from models.options import Options
    from models.recipe import AnomalyRecipe

    Floats: TypeAlias = NDArray[np.float32]

NET: Final = "net"
NEWEST: Final = "robust_z_newest"
WINDOW: Final = "robust_z_window"
COMPONENTS: Final = "principal_components"
# What needs no training, and so what a net has to be better than to be worth it.
UNTRAINED: Final = (NEWEST, WINDOW)
SAID: Final = {
    NET: "the net",
    NEWEST: "the robust z-score of the newest step",
    WINDOW: "the robust z-score of the window",
    COMPONENTS: "a linear autoencoder (principal components)",
}


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Of a method (and training, if it is one) the scores of `calibration` [n] and `test` [m].

    `errors` float32 [m, features], whose mean is the score: of a net alone.
    """

    method: str
    seed: int | None
    calibration: Floats
    test: Floats
    errors: Floats | None = None
    history: NDArray[np.float64] | None = None


def scores_of(recipe: AnomalyRecipe, past: Past, test: Test, options: Options) -> tuple[Scored, ...]:
    """Trains once for each of the recipe's seeds, in processes of its own; then the rest."""
    with tempfile.TemporaryDirectory(prefix="anomaly-") as place:
        for name in ("train", "valid", "calibration"):
            _write(Path(place), name, getattr(past, name))
        _write(Path(place), "test", test.samples)
        jobs = [Job(f"seed {seed}", partial(_learn, recipe, seed, Path(place))) for seed in recipe.judged.seeds]
        nets = run_all(jobs, options.jobs, options.console)
    return (*nets, *references(recipe, past, test))


def references(recipe: AnomalyRecipe, past: Past, test: Test) -> tuple[Scored, ...]:
    """What is fitted in a moment, to the same windows that the net learns from."""
    robust = RobustZ.fitted(past.train.x)
    known, new = past.calibration.x, test.samples.x
    scaler = scaler_of(recipe, past.train)
    components = PrincipalComponents.fitted(scaler.features(past.train.x), recipe.code)
    return (
        Scored(NEWEST, None, robust.newest(known), robust.newest(new)),
        Scored(WINDOW, None, robust.window(known), robust.window(new)),
        Scored(COMPONENTS, None, components.scores(scaler.features(known)), components.scores(scaler.features(new))),
    )


def _learn(recipe: AnomalyRecipe, seed: int, place: Path, tell: Tell) -> Scored:
    """Runs in a worker."""
    from models.anomaly.training import train_autoencoder  # noqa: PLC0415 - TensorFlow, and in workers alone

    def on_epoch(epoch: int, loss: float, valid_loss: float) -> None:
        tell(epoch / recipe.fit.epochs, f"epoch {epoch}: {loss:.4f}, validation {valid_loss:.4f}")

    train, valid = _taken_up(place, "train"), _taken_up(place, "valid")
    net = train_autoencoder(recipe, train, valid, seed=seed, on_epoch=on_epoch)
    errors = net.errors(_taken_up(place, "test").x)  # [m, F]
    calibration = net.scores(_taken_up(place, "calibration").x)  # [n]
    return Scored(NET, seed, calibration, errors.mean(axis=1), errors, net.history)


def _write(place: Path, name: str, samples: Samples) -> None:
    for each in fields(samples):
        np.save(place / f"{name}-{each.name}.npy", getattr(samples, each.name))


def _taken_up(place: Path, name: str) -> Samples:
    return Samples(*(np.load(place / f"{name}-{each.name}.npy", mmap_mode="r") for each in fields(Samples)))
