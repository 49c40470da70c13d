"""Ways to find what is wrong: the stream's own, trivial ones, and a model's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from bench.faults.histories import STEP_MS
from contract.manifest import AnomalyOutput
from contract.windows import resampled, windows_at
from stream.analysis.anomalies import AnomalyConfig
from stream.analysis.arrivals import Steps
from stream.analysis.incidents import IncidentConfig, Incidents
from stream.analysis.robust import RobustAnomalies, RobustConfig
from stream.analysis.scores import Scores
from stream.analysis.stuck import StuckSensors
from stream.errors import ModelError
from stream.serving import ServedModel, read_package

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bench.faults.histories import History

_MODELS: Final = Path(".models/registry/plant-anomaly/versions")
_DEFAULTS: Final = AnomalyConfig()
_Z: Final = IncidentConfig(threshold=3, clear=1.5)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An incident; `series` is None for one of the plant as a whole."""

    series: str | None
    at_ms: int


Method: TypeAlias = Callable[["Sequence[History]"], "list[list[Alarm]]"]


def methods(options: argparse.Namespace) -> dict[str, Method]:
    """By name; the autoencoder is there if its package is."""
    season, none = RobustConfig(season_s=options.day), RobustConfig(season_s=1e9)

    def robust(config: RobustConfig) -> Callable[[Steps], Scores]:
        return lambda steps: _grown(RobustAnomalies(config, STEP_MS), steps).advance(steps)

    def stuck(steps: Steps) -> Scores:
        return _grown(StuckSensors(_DEFAULTS.stuck, STEP_MS), steps).advance(steps)

    found: dict[str, Method] = {
        "both, as the stream": lambda each: _both(
            _alarms(each, robust(season)), _alarms(each, stuck, _DEFAULTS.stuck_incidents)
        ),
        "robust": lambda each: _alarms(each, robust(season)),
        "robust, no season": lambda each: _alarms(each, robust(none)),
        "stuck": lambda each: _alarms(each, stuck, _DEFAULTS.stuck_incidents),
        "mean and 3 sigma": lambda each: _alarms(each, _z_scores, _Z),
        "mean and 5 sigma": lambda each: _alarms(each, _z_scores, IncidentConfig()),
    }
    model = _model(options.model)
    return (
        found if model is None else found | {"LSTM autoencoder": lambda each: [_model_alarms(model, h) for h in each]}
    )


def _grown(detector: RobustAnomalies | StuckSensors, steps: Steps) -> RobustAnomalies | StuckSensors:
    detector.grow(int(steps.slot.max()) + 1)
    return detector


def _alarms(
    histories: Sequence[History], score: Callable[[Steps], Scores], config: IncidentConfig | None = None
) -> list[list[Alarm]]:
    """Of each history; all of them are scored together, each series with a slot of its own."""
    names = histories[0].names
    steps = [each.steps() for each in histories]
    at_ms, values = steps[0][0], np.concatenate([each for _, each in steps], axis=1)
    count, slots = values.shape
    slot = np.repeat(np.arange(slots, dtype=np.int32), count)
    scores = score(Steps(slot, np.tile(at_ms, slots), values.T.ravel(), np.ones(len(slot), np.int32)))
    incidents = Incidents(config or _DEFAULTS.robust_incidents)
    incidents.grow(slots)
    rows = incidents.advance(scores).latest()
    found: list[list[Alarm]] = [[] for _ in histories]
    for place, start_ms in zip(rows.slot.tolist(), rows.started_at_ms.tolist(), strict=True):
        found[place // len(names)].append(Alarm(names[place % len(names)], start_ms))
    return found


def _both(one: list[list[Alarm]], other: list[list[Alarm]]) -> list[list[Alarm]]:
    return [[*some, *more] for some, more in zip(one, other, strict=True)]


def _z_scores(steps: Steps) -> Scores:
    """How many standard deviations from the mean, both of all steps before; none in the first 20 minutes."""
    slots = int(steps.slot[-1]) + 1
    values = steps.value.reshape(slots, -1)
    count = np.arange(1, values.shape[1] + 1)
    centred = values - values[:, :1]
    mean = np.cumsum(centred, axis=1) / count
    deviation = np.sqrt(np.maximum(np.cumsum(centred**2, axis=1) / count - mean**2, 0))
    score = np.zeros(values.shape)
    off = np.abs(centred[:, 120:] - mean[:, 119:-1])
    np.divide(off, deviation[:, 119:-1], out=score[:, 120:], where=deviation[:, 119:-1] > 1e-9)  # noqa: PLR2004 - rounding
    expected = np.zeros(len(steps.slot))
    return Scores(steps.slot, steps.at_ms + STEP_MS, steps.value, expected, score.ravel())


def _model(asked: Path | None) -> ServedModel | None:
    newest = asked or max(_MODELS.glob("*"), default=None)
    if newest is None:
        return None
    try:
        return ServedModel.load(read_package(newest))
    except ModelError as exc:
        print(f"without the autoencoder: {exc}", file=sys.stderr)
        return None


def _model_alarms(model: ServedModel, known: History) -> list[Alarm]:
    """As the device has it: from above the manifest's threshold to below its `clear`."""
    view, output = model.manifest, model.manifest.output
    assert isinstance(output, AnomalyOutput)
    columns = [known.values[:, known.names.index(each.name)] for each in view.inputs]
    steps = resampled(view.inputs, view.window, [known.at_ms] * len(columns), columns)
    scores, _ = model.score(windows_at(view, steps, steps.at_ms + view.window.step_ms))
    told = np.flatnonzero(np.isfinite(scores))
    nothing = np.full(len(told), np.nan)
    config = IncidentConfig(
        threshold=output.threshold, clear=output.clear or output.threshold, least_steps=1, join_steps=0
    )
    incidents = Incidents(config)
    incidents.grow(1)
    ends_ms = steps.at_ms[told] + view.window.step_ms
    rows = incidents.advance(Scores(np.zeros(len(told), np.int32), ends_ms, nothing, nothing, scores[told])).latest()
    return [Alarm(None, start_ms) for start_ms in rows.started_at_ms.tolist()]
