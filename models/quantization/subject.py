"""What is to be quantized: a trained net, windows to calibrate and to judge it by, and what its manifest says."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from contract.manifest import AnomalyOutput, ForecastOutput
from models.autoencoder import Autoencoder
from models.data import load
from models.errors import ModelsError
from models.forecaster import Forecaster
from models.package import version_of
from models.quantization.calibration import WINDOWS, evenly, representative
from models.quantization.judging import AnomalyJudge, ForecastJudge
from models.recipe import AnomalyRecipe, to_document
from models.training.document import MODEL_FILE, TRAINED_FILE
from models.training.stage import learnt_and_valid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from contract.manifest import View
    from models.anomaly.truth import Truth
    from models.options import Options
    from models.quantization.judging import Judge
    from models.recipe import ForecastRecipe, Recipe

    Floats: TypeAlias = NDArray[np.float32]

# Windows that forms are judged and timed by.
_HELD: Final = 2000
_INCIDENTS: Final = 300
# Of those learnt from, at most so many are looked at.
_LEARNT: Final = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """`core` takes scaled windows and is what is converted; `learnt` are some of those that it was trained on, scaled.

    `calibration` are the ones that int8's ranges are set by; `view` and `output` have the means and scales learnt.
    """

    core: Any
    learnt: Floats
    calibration: Floats
    judge: Judge
    view: View
    output: ForecastOutput | AnomalyOutput
    trained: Mapping[str, Any]
    keras: bytes

    @property
    def version(self) -> str:
        """Of when it was trained, and of its weights."""
        return version_of(dt.datetime.fromisoformat(self.trained["trained_at"]), self.core.get_weights())


def subject_of(recipe: Recipe, options: Options) -> Subject:
    """What the `train` stage left; raises ModelsError where it left nothing, or something of another recipe."""
    place = options.work / recipe.name
    trained = _trained(place / TRAINED_FILE, recipe)
    if isinstance(recipe, AnomalyRecipe):
        return _anomaly(recipe, options, place / MODEL_FILE, trained)
    return _forecast(recipe, options, place / MODEL_FILE, trained)


def _forecast(recipe: ForecastRecipe, options: Options, path: Path, trained: Mapping[str, Any]) -> Subject:
    forecaster = Forecaster.load(path, recipe)
    scaler = forecaster.scaler
    learnt, later = learnt_and_valid(load(recipe.dataset, options), recipe)
    held = later.where(_chosen(len(later)))
    windows = scaler.features(learnt.x[evenly(_LEARNT, len(learnt))])
    outputs = np.concatenate(
        [forecaster.core.predict_on_batch(windows[at : at + _HELD]) for at in range(0, len(windows), _HELD)]
    )
    return Subject(
        core=forecaster.core,
        learnt=windows[evenly(_HELD, len(windows))],
        calibration=representative(windows, outputs),
        judge=ForecastJudge(recipe, scaler, held, forecaster.predict(held.x)),
        view=scaler.view_of(recipe.view),
        output=ForecastOutput(
            kind="forecast",
            targets=scaler.targets_of(recipe.targets),
            horizons=recipe.horizons,
            quantiles=recipe.quantiles,
        ),
        trained=trained,
        keras=path.read_bytes(),
    )


def _anomaly(recipe: AnomalyRecipe, options: Options, path: Path, trained: Mapping[str, Any]) -> Subject:
    from models.anomaly.parts import past_of, test_of  # noqa: PLC0415 - scipy: a forecast needs none of it

    net = Autoencoder.load(path, recipe)
    learnt, test = past_of(recipe, options).train, test_of(recipe, options)
    some = learnt.x[evenly(_HELD, len(learnt))]
    judged = _judged(test.truth)
    held = test.samples.x[judged]
    return Subject(
        core=net.core,
        learnt=net.scaler.features(some),
        calibration=net.calibration_windows(some[evenly(WINDOWS, len(some))]),
        judge=AnomalyJudge(
            net.scaler.features(held), net.scores(held), test.truth.is_incident[judged], trained["threshold"]
        ),
        view=net.scaler.view_of(recipe.view),
        output=AnomalyOutput(
            kind="anomaly", score="reconstruction", threshold=trained["threshold"], clear=trained["clear"]
        ),
        trained=trained,
        keras=path.read_bytes(),
    )


def _judged(truth: Truth) -> NDArray[np.int64]:
    """Which windows forms are judged by: evenly from all, and of incidents, which may be rare, some more."""
    every, incidents = np.flatnonzero(truth.is_judged), np.flatnonzero(truth.is_incident)
    return np.union1d(every[evenly(_HELD, len(every))], incidents[evenly(_INCIDENTS, len(incidents))])


def _chosen(count: int) -> NDArray[np.bool_]:
    chosen = np.zeros(count, bool)
    chosen[evenly(_HELD, count)] = True
    return chosen


def _trained(path: Path, recipe: Recipe) -> Mapping[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        of, _ = document["recipe"], dt.datetime.fromisoformat(document["trained_at"])
    except FileNotFoundError:
        raise ModelsError(f"{path}: is not there: train first") from None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelsError(f"{path}: is not what a training writes: {exc!r:.200}") from exc
    wanted = json.loads(json.dumps(to_document(recipe)))
    if other := [name for name, value in wanted.items() if of.get(name) != value]:
        raise ModelsError(f"{path}: is of a recipe with other {', '.join(other)}: train again")
    return document
