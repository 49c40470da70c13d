"""AutoETS, the statistical library's: a new model at each origin, which is so slow that only some origins have one.

Quantiles are its own prediction intervals'. What is never below 0 is told by its logarithm, where it has one: the
quantiles of the one are those of the other. A root mean square over h steps is a series of its own, of every h-th step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from models.evaluation.pool import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.evaluation.fitting import Past
    from models.evaluation.pool import Tell
    from models.evaluation.tracks import Track

    Floats: TypeAlias = NDArray[np.float64]

# How many fits an evaluation may make, each of some hundredths of a second.
MOST_FITS: Final = 360
QUICK_FITS: Final = 24
# Steps that it looks back at, or so many seasons, and the least.
LENGTH: Final = 150
SEASONS: Final = 12
LEAST_LENGTH: Final = 30
_MEDIAN: Final = 0.5
# A longer season makes it slow.
LONGEST_SEASON: Final = 24


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A series up to an origin, and which steps after it are asked for.

    The answer, less `base` and of a logarithm where `is_log`, is that for the window `origin`, `target` and `columns`,
    the horizons' places.
    """

    series: Floats
    ahead: tuple[int, ...]
    season: int
    base: float
    is_log: bool
    origin: int
    target: int
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of each asked its quantiles [horizons, quantiles], as the model tells the target."""

    asked: tuple[Asked, ...]
    told: tuple[Floats, ...]


def ets_jobs(past: Past, end_ms: NDArray[np.int64], table: NDArray[np.int32], *, quick: bool) -> list[Job[Answers]]:
    """Origins at even times among these windows, their tables in turn; work for two."""
    asked = [each for origin in _origins(past, end_ms, quick=quick) for each in _asked(past, end_ms, table, origin)]
    parts = 1 if quick else 2
    return [
        Job(f"AutoETS, part {part + 1}", partial(answer, tuple(asked[part::parts]), past.recipe.quantiles))
        for part in range(parts)
    ]


def ets_told(answers: Sequence[Answers], like: Floats) -> Floats:
    """[windows, targets, horizons, quantiles] in the shape of `like`; NaN where it was not asked."""
    told = np.full_like(like, np.nan)
    for each in answers:
        for asked, quantiles in zip(each.asked, each.told, strict=True):
            told[asked.origin, asked.target, list(asked.columns)] = quantiles
    return told


def answer(asked: Sequence[Asked], quantiles: Sequence[float], tell: Tell) -> Answers:
    """Runs in a worker."""
    told = []
    for number, each in enumerate(asked):
        told.append(_told(each, quantiles))
        tell((number + 1) / len(asked), f"{number + 1} of {len(asked)} fits")
    return Answers(tuple(asked), tuple(told))


def _told(asked: Asked, quantiles: Sequence[float]) -> Floats:
    from statsforecast.models import AutoETS  # noqa: PLC0415 - seconds, and in workers alone

    levels = [_level(each) for each in quantiles]
    model = AutoETS(season_length=asked.season)
    wanted: Any = sorted({each for each in levels if each})
    try:
        made: dict[str, Any] = model.forecast(asked.series, h=max(asked.ahead), level=wanted)
    except Exception:  # noqa: BLE001 - it raises that itself where no model fits: then there is no answer
        return np.full((len(asked.ahead), len(quantiles)), np.nan)
    rows = np.array(asked.ahead) - 1
    columns = [
        made[f"{'lo' if share < _MEDIAN else 'hi'}-{level}" if level else "mean"][rows]
        for share, level in zip(quantiles, levels, strict=True)
    ]
    told: Floats = np.stack(columns, axis=-1) - asked.base
    return np.exp(told) if asked.is_log else told


def _level(quantile: float) -> float:
    """The interval, in per cent, that this quantile is an end of."""
    level = round(abs(1 - 2 * quantile) * 100, 6)
    return int(level) if level == int(level) else level


def _origins(past: Past, end_ms: NDArray[np.int64], *, quick: bool) -> list[int]:
    fits = sum(len(past.recipe.horizons) if target.over == "rms" else 1 for target in past.recipe.targets)
    # A fit takes as long as the square of the length, about.
    most = QUICK_FITS if quick else MOST_FITS * (LENGTH / _length(_season(past))) ** 2
    count = max(1, int(most / fits))
    times, first, sizes = np.unique(end_ms, return_index=True, return_counts=True)
    chosen = np.unique(np.linspace(0, len(times) - 1, min(count, len(times))).round().astype(int))
    return [int(first[each] + turn % sizes[each]) for turn, each in enumerate(chosen)]


def _asked(past: Past, end_ms: NDArray[np.int64], table: NDArray[np.int32], origin: int) -> list[Asked]:
    track = past.tracks[table[origin]]
    row = int(track.rows(end_ms[origin : origin + 1])[0])
    horizons = past.recipe.horizons
    made = []
    for place, target in enumerate(past.recipe.targets):
        if target.over == "rms":
            made += [_of_rms(past, track, row, (origin, place, column)) for column in range(len(horizons))]
        else:
            made.append(_of_values(past, track, row, (origin, place)))
    return [each for each in made if len(each.series) >= LEAST_LENGTH]


def _of_rms(past: Past, track: Track, row: int, of: tuple[int, int, int]) -> Asked:
    origin, place, column = of
    horizon = past.recipe.horizons[column]
    series = _latest(track.known[:, place, track.horizons.index(horizon)][row::-horizon], LENGTH)
    is_log = bool((series > 0).all())
    return Asked(np.log(series) if is_log else series, (1,), 1, 0.0, is_log, origin, place, (column,))


def _of_values(past: Past, track: Track, row: int, of: tuple[int, int]) -> Asked:
    origin, place = of
    target, horizons = past.recipe.targets[place], past.recipe.horizons
    series, base = _latest(track.known[row::-1, place, 0], _length(_season(past))), 0.0
    is_log = past.is_spread(place) and bool((series > 0).all())
    if is_log or target.relative == "log_ratio":
        series = np.log(series[series > 0])
    if target.relative is not None and len(series):
        base = float(series[-1])
    return Asked(series, horizons, _season(past), base, is_log, origin, place, tuple(range(len(horizons))))


def _season(past: Past) -> int:
    return past.recipe.season if past.recipe.season <= LONGEST_SEASON else 1


def _length(season: int) -> int:
    """How far it looks back."""
    return max(LENGTH, SEASONS * season)


def _latest(newest_first: Floats, length: int) -> Floats:
    """What is known of the last so many, oldest first."""
    series = newest_first[:length][::-1]
    return np.asarray(series[np.isfinite(series)], np.float64)
