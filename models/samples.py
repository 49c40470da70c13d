"""Samples: what a model sees and what it should have told, of all tables of a dataset."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

from contract.windows import Steps, actual, relative, resampled, windows_at
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from contract.manifest import View
    from models.data.dataset import Dataset
    from models.recipe import ForecastRecipe

    Floats: TypeAlias = NDArray[np.float32]
    Doubles: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]

# How many windows are made at once: they are doubles first.
_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Whole windows by the time of their end, and what came.

    `x` float32 [n, length, features], not scaled; `y` float32 [n, targets, horizons], as a model tells it: what is
    relative is relative; `last` float64 [n, inputs], the inputs at the windows' last step; `end_ms` int64 [n], UTC,
    rising; `table` int32 [n], which of the dataset's tables. For anomalies there are no targets.
    """

    x: Floats
    y: Floats
    last: Doubles
    end_ms: Times
    table: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.end_ms)

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Those that are chosen (bool [n])."""
        return type(self)(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def between(self, from_ms: float, to_ms: float) -> Self:
        """Those whose windows end at `from_ms` or later, and before `to_ms`."""
        return self.where((self.end_ms >= from_ms) & (self.end_ms < to_ms))

    def split(self, later_share: float, gap_ms: int) -> tuple[Self, Self]:
        """The earlier and the later ones; between their ends lies the gap, by which nobody sees what the other does."""
        if not len(self):
            return self, self
        at_ms = float(np.quantile(self.end_ms, 1 - later_share, method="lower"))
        return self.between(-np.inf, at_ms - gap_ms), self.between(at_ms, np.inf)


def samples_of(dataset: Dataset, recipe: ForecastRecipe, *, stride: int) -> Samples:
    """Every `stride`-th step's window, where it is whole and all that is to be forecast is known."""
    view, targets = recipe.view, recipe.targets

    def told(steps: Steps, end_ms: Times, last: Doubles) -> Floats:
        came = actual(view, targets, recipe.horizons, steps, end_ms)
        return relative(view, targets, came, last).astype(np.float32)  # [n, targets, horizons]

    return _samples(dataset, view, stride, told)


def window_samples(dataset: Dataset, view: View, stride: int) -> Samples:
    """Every `stride`-th step's window, where it is whole; there are no targets."""
    return _samples(dataset, view, stride, lambda _, end_ms, __: np.empty((len(end_ms), 0, 0), np.float32))


def embargo_ms(dataset: Dataset, view: View, horizon: int = 0) -> int:
    """How long a window with what it looks back at and the longest horizon may take.

    Windows whose ends are so far apart share no step, neither in what they see nor in what they tell.
    """
    count = view.window.length + view.reach + horizon
    if view.window.steps == "clock":
        return count * view.window.step_ms
    # Of the view's steps, of which one may have several of the dataset's rows.
    step_ms = view.window.step_ms
    begins = [np.unique(table.steps.at_ms // step_ms * step_ms) for table in dataset.tables]
    spans = [at_ms[count:] - at_ms[:-count] for at_ms in begins]
    return max((int(span.max()) for span in spans if len(span)), default=0)


def _samples(dataset: Dataset, view: View, stride: int, told: Callable[[Steps, Times, Doubles], Floats]) -> Samples:
    columns = _columns(dataset, view)
    parts = []
    for index, table in enumerate(dataset.tables):
        steps = _at_steps(table.steps, columns, view, round(dataset.step_s * 1000))
        for end_ms in _blocks(steps.at_ms[::stride] + view.window.step_ms):
            windows = windows_at(view, steps, end_ms)
            y = told(steps, end_ms, windows.last)
            keep = windows.is_whole & np.isfinite(y).all(axis=(1, 2))
            number = np.full(len(end_ms), index, np.int32)
            parts.append(Samples(windows.features.astype(np.float32), y, windows.last, end_ms, number).where(keep))
    return _by_time(dataset.name, parts)


def _at_steps(steps: Steps, columns: list[int], view: View, step_ms: int) -> Steps:
    """These columns at the view's steps: where those are longer, a step of the dataset counts as a reading."""
    values, is_spoilt = steps.values[:, columns], steps.is_spoilt[:, columns]
    if view.window.step_ms == step_ms:
        return Steps(steps.at_ms, values, is_spoilt)
    known = [np.isfinite(values[:, place]) | is_spoilt[:, place] for place in range(len(columns))]
    at_ms = [steps.at_ms[each] for each in known]
    return resampled(view.inputs, view.window, at_ms, [values[each, place] for place, each in enumerate(known)])


def _columns(dataset: Dataset, view: View) -> list[int]:
    """Where the view's inputs are in the dataset; raises DataError where it does not fit."""
    if view.window.step_ms % round(dataset.step_s * 1000):
        raise DataError(f"{dataset.name}: steps of {dataset.step_s:g} s do not make such of {view.window.step_s:g} s")
    if missing := [each.name for each in view.inputs if each.name not in dataset.columns]:
        raise DataError(f"{dataset.name}: has no {', '.join(missing)}; there are {', '.join(dataset.columns)}")
    columns = [dataset.columns.index(each.name) for each in view.inputs]
    known = np.any([np.isfinite(table.steps.values[:, columns]).any(axis=0) for table in dataset.tables], axis=0)
    if empty := [each.name for each, some in zip(view.inputs, known, strict=True) if not some]:
        raise DataError(f"{dataset.name}: {', '.join(empty)} without a single value")
    return columns


def _blocks(end_ms: Times) -> Iterator[Times]:
    return (end_ms[begin : begin + _BLOCK] for begin in range(0, len(end_ms), _BLOCK))


def _by_time(name: str, parts: Sequence[Samples]) -> Samples:
    """All of them, in order of their ends; raises DataError where there is none."""
    if not sum(map(len, parts)):
        raise DataError(f"{name}: no whole window: too little data, or too many values are missing")
    whole = Samples(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Samples)))
    order = np.argsort(whole.end_ms, kind="stable")
    return Samples(*(getattr(whole, each.name)[order] for each in fields(Samples)))
