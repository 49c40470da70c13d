"""How good scores are at telling what was wrong from what was not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from models.anomaly.events import judged
from models.anomaly.precision import ranked
from models.anomaly.threshold import threshold_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from contract.manifest import View
    from models.anomaly.events import Judgement
    from models.anomaly.parts import Test
    from models.anomaly.scoring import Scored
    from models.anomaly.threshold import Threshold
    from models.anomaly.truth import Truth

    Floats: TypeAlias = NDArray[np.float64]
    Errors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A method, or one training of it, at the threshold that its own scores of normal windows gave.

    `average_precision` is by window, of all kinds; `by_kind` of those of a kind among normal ones. `false_share` is the
    share of normal windows above the threshold, which the recipe states.
    """

    scored: Scored
    threshold: Threshold
    average_precision: float
    by_kind: Mapping[str, float]
    events: Judgement
    false_share: float

    def to_document(self, truth: Truth) -> dict[str, Any]:
        """All of it, for JSON."""
        events = self.events
        return {
            "method": self.scored.method,
            "seed": self.scored.seed,
            "threshold": self.threshold.level,
            "clear": self.threshold.clear,
            "average_precision": self.average_precision,
            "precision": events.precision,
            "recall": events.recall,
            "f1": events.f1,
            "delay_s": float(np.median(events.delays_s)) if events.delays_s else None,
            "false_alarms": events.false_alarms,
            "false_alarms_per_day": events.false_alarms_per_day,
            "false_share": self.false_share,
            "kinds": {
                kind: {"average_precision": self.by_kind[kind], "found": found, "events": count}
                for kind, (found, count) in found_by_kind(truth, events).items()
            },
        }


def judge(scored: Scored, test: Test, independent: float, rate: float) -> Judged:
    """`independent`: how many windows that share no step the calibration has."""
    threshold = threshold_of(scored.calibration, independent, rate)
    truth, scores = test.truth, scored.test
    return Judged(
        scored=scored,
        threshold=threshold,
        average_precision=_average_precision(truth, scores, truth.is_incident),
        by_kind={kind: _average_precision(truth, scores, truth.is_kind(kind)) for kind in truth.kinds},
        events=judged(truth, test.samples, scores, threshold.level, threshold.clear),
        false_share=float((scores[truth.is_normal] > threshold.level).mean()),
    )


def found_by_kind(truth: Truth, events: Judgement) -> dict[str, tuple[int, int]]:
    """Of each kind how many were found, and how many there were."""
    return {
        kind: (
            sum(found for each, found in zip(truth.events, events.found, strict=True) if each.kind == kind),
            sum(each.kind == kind for each in truth.events),
        )
        for kind in truth.kinds
    }


def events_by_place(truth: Truth) -> dict[str, list[int]]:
    """The events' numbers by what was wrong with what, in order of the alphabet."""
    places: dict[str, list[int]] = {}
    for number, event in enumerate(truth.events):
        places.setdefault(f"{event.kind} {event.incident.what}".replace("_", " ").strip(), []).append(number)
    return dict(sorted(places.items()))


def shares_by_event(truth: Truth, errors: Errors) -> Floats:
    """What each feature's errors [n, F] contribute to the score while an event lasts, float64 [events, F]."""
    sums = np.zeros((len(truth.events), errors.shape[1]))
    np.add.at(sums, truth.event[truth.is_incident], errors[truth.is_incident])
    return np.asarray(sums / np.maximum(sums.sum(axis=1, keepdims=True), 1e-30), np.float64)


def pointed_at(truth: Truth, shares: Floats, found: tuple[bool, ...], view: View) -> float | None:
    """Of the events that were found and say where they were: the share whose greatest contribution is from there.

    From there is a feature of an input whose name begins with the place: `pump1` has `pump1/vibration`.
    """
    right = [
        any(name == each.incident.what or name.startswith(f"{each.incident.what}/") for name in view.features[top].of)
        for each, top, was in zip(truth.events, shares.argmax(axis=1), found, strict=True)
        if was and each.incident.what
    ]
    return float(np.mean(right)) if right else None


def _average_precision(truth: Truth, scores: Errors, is_wanted: NDArray[np.bool_]) -> float:
    chosen = truth.is_normal | is_wanted
    return ranked(scores[chosen], is_wanted[chosen]).average_precision()
