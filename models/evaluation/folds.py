"""Walk-forward: the end of the data in blocks of time, each forecast by what was learnt before it and nothing later.

Between what is learnt and what is judged lies an embargo: no window that is judged sees a step that the outcome of one
that was learnt from lies in. It is counted in each table's own steps, since those of `present` are of any duration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from models.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.recipe import WalkForward

    Mask: TypeAlias = NDArray[np.bool_]
    Times: TypeAlias = NDArray[np.int64]

# Of what is before a fold, the last part says when to stop learning.
VALID_SHARE = 0.15
# Fewer times than this in a part say nothing.
LEAST_TIMES = 8


@dataclass(frozen=True, slots=True)
class Fold:
    """When what is judged begins and ends before, and what stops the learning begins: UTC ms, of windows' ends."""

    number: int
    valid_from_ms: int
    test_from_ms: int
    test_to_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Which windows are what; `fit`: all that the embargo leaves before the test, which baselines are fitted to."""

    train: Mask
    valid: Mask
    fit: Mask
    test: Mask


def folds_of(end_ms: Times, judged: WalkForward) -> tuple[Fold, ...]:
    """The last `test_share` of all times, in blocks of equally many."""
    times = np.unique(end_ms)
    begin = round(len(times) * (1 - judged.test_share))
    edges = np.linspace(begin, len(times), judged.folds + 1).round().astype(int)
    if begin < 2 * LEAST_TIMES or np.diff(edges).min() < LEAST_TIMES:
        raise EvaluationError(
            f"{len(times)} windows' ends are too few for {judged.folds} folds of the last {judged.test_share:.0%}"
        )
    after = np.append(times, times[-1] + 1)
    return tuple(
        Fold(number, int(times[round(first * (1 - VALID_SHARE))]), int(after[first]), int(after[last]))
        for number, (first, last) in enumerate(pairwise(edges), 1)
    )


def parts_of(fold: Fold, end_ms: Times, table: NDArray[np.int32], ends: Sequence[Times], embargo: int) -> Parts:
    """The windows of a fold; `ends` are the ends of each table's steps, `embargo` is in steps."""
    train, fit = np.zeros(len(end_ms), bool), np.zeros(len(end_ms), bool)
    for key, of_table in enumerate(ends):
        mine = table == key
        train |= mine & (end_ms <= _before(of_table, fold.valid_from_ms, embargo))
        fit |= mine & (end_ms <= _before(of_table, fold.test_from_ms, embargo))
    valid = fit & (end_ms >= fold.valid_from_ms)
    test = (end_ms >= fold.test_from_ms) & (end_ms < fold.test_to_ms)
    for name, mask in (("train", train), ("validation", valid), ("test", test)):
        if np.count_nonzero(mask) < LEAST_TIMES:
            raise EvaluationError(f"fold {fold.number}: {np.count_nonzero(mask)} windows to {name}: too few")
    return Parts(train, valid, fit, test)


def _before(ends: Times, at_ms: int, embargo: int) -> int:
    """The end of the step that is so many before the first one which ends at this time or later."""
    place = int(np.searchsorted(ends, at_ms)) - embargo
    return int(ends[place]) if 0 <= place < len(ends) else np.iinfo(np.int64).min
