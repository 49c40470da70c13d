"""Precision by recall, its average, and what another draw of incidents would have made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Scores: TypeAlias = NDArray[np.float32]
    Mask: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Blocks: TypeAlias = NDArray[np.int64]

RESAMPLES: Final = 500
# Drawn from fewer blocks, an interval would say nothing.
LEAST_BLOCKS: Final = 5
# Nobody can be told to be closer to perfect than this.
_LEAST_MISS: Final = 1e-3
_TAIL: Final = 0.025


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Windows by falling score: `order` [n], `ends` [distinct scores] the place of the last one of each score."""

    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    is_incident: Mask

    def average_precision(self, weights: Floats | None = None) -> float:
        """The sum of precision times gain in recall over all thresholds; NaN without an incident.

        `weights` [n] are how often each window counts.
        """
        drawn = np.ones(len(self.order)) if weights is None else weights[self.order]
        right = np.cumsum(drawn * self.is_incident[self.order])[self.ends]
        told = np.cumsum(drawn)[self.ends]
        if not len(right) or right[-1] == 0:
            return float("nan")
        gains = np.diff(right, prepend=0.0)
        return float((gains * right / np.maximum(told, 1e-12)).sum() / right[-1])

    def curve(self, points: int = 200) -> tuple[Floats, Floats]:
        """Recall and precision, at most so many of each."""
        right = np.cumsum(self.is_incident[self.order])[self.ends]
        chosen = np.unique(np.linspace(0, len(right) - 1, points).astype(int))
        return right[chosen] / right[-1], right[chosen] / (self.ends[chosen] + 1)


def ranked(scores: Scores, is_incident: Mask) -> Ranking:
    """Windows with the same score have one place: nobody could tell them apart by a threshold."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.flatnonzero(np.diff(falling, append=-np.inf))
    return Ranking(order.astype(np.int64), ends.astype(np.int64), is_incident)


@dataclass(frozen=True, slots=True)
class Gain:
    """1 - (1 - AP) / (1 - AP of the other), with its 95 % interval."""

    skill: float
    low: float
    high: float


def gain(ours: Sequence[Ranking], theirs: Ranking, blocks: Blocks, seed: int) -> Gain:
    """The skill of several trainings of a model, on average; the interval is over blocks of time and trainings.

    A percentile bootstrap that draws whole blocks [n], each an incident with its surroundings, and one training for
    each draw. With too few blocks the interval is everything from -1 to 1.
    """
    skill = float(np.mean([_skill(each.average_precision(), theirs.average_precision()) for each in ours]))
    numbers, block = np.unique(blocks, return_inverse=True)
    if len(numbers) < LEAST_BLOCKS:
        return Gain(skill, min(-1.0, skill), 1.0)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        counts = np.bincount(rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers)).astype(np.float64)
        one = ours[int(rng.integers(len(ours)))]
        drawn.append(_skill(one.average_precision(counts[block]), theirs.average_precision(counts[block])))
    low, high = np.nanquantile(drawn, (_TAIL, 1 - _TAIL))
    return Gain(skill, float(low), float(high))


def _skill(ours: float, theirs: float) -> float:
    return 1 - max(1 - ours, _LEAST_MISS) / max(1 - theirs, _LEAST_MISS)
