"""Forecasts whose time has come: held against what was measured."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
from psycopg2.extras import execute_values

from contract.manifest import ForecastOutput
from contract.sparkplug import Quality
from contract.windows import resampled
from stream import turn
from stream.forecasting.measures import is_covered, median_of, outcome, pinball, seasons
from stream.forecasting.readings import read, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

    from contract.manifest import Target
    from contract.windows import Steps
    from stream.forecasting.cloud import Bound
    from stream.forecasting.readings import Read
    from stream.forecasting.watched import Watched

    Times: TypeAlias = NDArray[np.int64]

_FORECASTERS: Final = """
select forecaster_id, group_id, node_id, device_id, subject, target from forecaster where model = %s
"""
_UNSCORED: Final = """
select f.forecaster_id, (extract(epoch from f.made_at) * 1000)::bigint, f.horizon_s, f.levels, f.quantiles
  from unnest(%(ids)s::int[], %(upto)s::timestamptz[]) as due (forecaster_id, upto)
  join forecast f on f.forecaster_id = due.forecaster_id and f.target_at <= due.upto
 where f.target_at >= %(from)s and f.target_at <= %(to)s and f.made_at >= %(made)s and f.made_at < %(to)s
   and (f.target_at, f.forecaster_id, f.made_at, f.horizon_s) > %(place)s
   and not exists (
     select from forecast_score s
      where (s.forecaster_id, s.target_at, s.made_at, s.horizon_s)
          = (f.forecaster_id, f.target_at, f.made_at, f.horizon_s)
        and s.target_at >= %(from)s and s.target_at <= %(to)s)
 order by f.target_at, f.forecaster_id, f.made_at, f.horizon_s limit %(most)s
"""
_SCORES: Final = """
insert into forecast_score
  (forecaster_id, made_at, horizon_s, target_at, actual, pinball, is_covered, error, naive_error, seasonal_error)
values %s on conflict (forecaster_id, target_at, made_at, horizon_s) do nothing returning 1
"""
_PAGE_ROWS: Final = 5_000
_AT_ONCE: Final = 5_000
_HOUR_MS: Final = 3_600_000
_FURTHER: Final = 2


class Unscored(NamedTuple):
    """A forecast whose time has come."""

    forecaster_id: int
    made_ms: int
    horizon_s: float
    levels: Sequence[float]
    quantiles: Sequence[float]

    @property
    def place(self) -> tuple[int, int, int, float]:
        """Where it stands in the order of time: when it is of, and its key."""
        return self.made_ms + round(self.horizon_s * 1000), self.forecaster_id, self.made_ms, self.horizon_s


class Told(NamedTuple):
    """Whose forecasts they are, and of which of the model's targets."""

    watched: Watched
    target: Target


def forecasters(cursor: cursor, bound: Bound) -> dict[int, Told]:
    """The forecasters of a model, of any version and place, that tell of what is watched."""
    cursor.execute(_FORECASTERS, (bound.manifest.name,))
    known = {(*watched.device, watched.subject): watched for watched in bound.series}
    targets = {each.name: each for each in bound.manifest.targets}
    return {
        number: Told(known[tuple(who)], targets[target])
        for number, *who, target in cursor.fetchall()
        if tuple(who) in known and target in targets
    }


def score_span(
    cursor: cursor, bound: Bound, told: Mapping[int, Told], upto_ms: Mapping[int, int], from_ms: int, to_ms: int
) -> int:
    """Score forecasts for times after `from_ms` up to `to_ms` that have no score; how many have one now.

    Of each forecaster up to a time of its own. One of which no reading has come stays without a score: the caller
    says how long it is tried. It commits as it goes, an hour and a bounded number at once.
    """
    scored = 0
    for begin in range(from_ms, to_ms, _HOUR_MS):
        after = (begin, -1, 0, 0.0)
        while wanted := _unscored(cursor, bound, upto_ms, after, min(begin + _HOUR_MS, to_ms)):
            scored += _score(cursor, bound, told, wanted)
            cursor.connection.commit()
            if len(wanted) < _AT_ONCE:
                break
            after = wanted[-1].place
    return scored


def _unscored(
    cursor: cursor, bound: Bound, upto_ms: Mapping[int, int], after: tuple[int, int, int, float], to_ms: int
) -> list[Unscored]:
    """The first that come after a place in the order of time."""
    from_ms, forecaster_id, made_ms, horizon_s = after
    given = {
        "ids": list(upto_ms),
        "upto": [text_of(each) for each in upto_ms.values()],
        "from": text_of(from_ms),
        "to": text_of(to_ms),
        # A version that was served before may have looked further ahead.
        "made": text_of(from_ms - _FURTHER * furthest_ms(bound)),
        "place": (text_of(from_ms), forecaster_id, text_of(made_ms), horizon_s),
        "most": _AT_ONCE,
    }
    cursor.execute(_UNSCORED, given)
    return [Unscored(*row) for row in cursor.fetchall()]


def _score(cursor: cursor, bound: Bound, told: Mapping[int, Told], wanted: Sequence[Unscored]) -> int:
    """Score them, in the transaction of the cursor; how many were: of others no reading has come."""
    watched = list(dict.fromkeys(told[each.forecaster_id].watched for each in wanted))
    steps = _steps(bound, watched, read(cursor, _spans(bound, told, wanted)))
    groups: dict[tuple[str, float, tuple[float, ...]], list[Unscored]] = defaultdict(list)
    for each in wanted:
        # Stored in 32 bits.
        levels = tuple(round(level, 6) for level in each.levels)
        groups[told[each.forecaster_id].target.name, each.horizon_s, levels].append(each)
    rows: list[tuple[Any, ...]] = []
    for (_, _, levels), group in groups.items():
        series = np.array([watched.index(told[each.forecaster_id].watched) for each in group], np.int64)
        rows += _rows(bound, told[group[0].forecaster_id].target, group, levels, steps, series)
    if not rows:
        return 0
    turn.take(cursor, "forecasting")
    return len(execute_values(cursor, _SCORES, rows, page_size=_PAGE_ROWS, fetch=True))


def furthest_ms(bound: Bound) -> int:
    """How far ahead the model looks."""
    output = bound.manifest.output
    return max(output.horizons) * bound.manifest.window.step_ms if isinstance(output, ForecastOutput) else 0


def season_of(bound: Bound) -> int:
    """In steps, one at least."""
    return max(1, round(bound.binding.season_s * 1000 / bound.manifest.window.step_ms))


def _rows(
    bound: Bound, target: Target, group: Sequence[Unscored], levels: Sequence[float], steps: Steps, series: Times
) -> list[tuple[Any, ...]]:
    """Of forecasts of one target, horizon and levels."""
    made_ms = np.array([each.made_ms for each in group], np.int64)
    horizon_ms = round(group[0].horizon_s * 1000)
    horizon = horizon_ms // bound.manifest.window.step_ms
    came = outcome(bound.manifest, target, horizon, steps, made_ms, series, season_of(bound))
    quantiles = np.array([each.quantiles for each in group], np.float64)
    covered = is_covered(came.actual, quantiles, levels)
    columns = (
        came.actual,
        pinball(came.actual, quantiles, levels),
        np.full(len(group), None) if covered is None else covered,
        came.actual - median_of(quantiles, levels),
        came.actual - came.naive,
        came.actual - came.seasonal,
    )
    return [
        (
            each.forecaster_id,
            text_of(each.made_ms),
            each.horizon_s,
            text_of(each.made_ms + horizon_ms),
            *map(_null, row),
        )
        for each, *row in zip(group, *(column.tolist() for column in columns), strict=True)
        if math.isfinite(row[0])
    ]


def _steps(bound: Bound, watched: Sequence[Watched], readings: Read) -> Steps:
    """The steps of all watched; a series' number is its place among them."""
    is_good = readings.quality == Quality.GOOD
    times, values, series = [], [], []
    for each in bound.manifest.inputs:
        spans = [readings.of(bound.series[one][each.source]) for one in watched]
        where = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        times.append(readings.at_ms[where])
        values.append(np.where(is_good[where], readings.value[where], np.nan))
        series.append(np.repeat(np.arange(len(watched)), [span.stop - span.start for span in spans]))
    return resampled(bound.manifest.inputs, bound.manifest.window, times, values, series)


def _spans(bound: Bound, told: Mapping[int, Told], wanted: Sequence[Unscored]) -> list[tuple[int, int, int]]:
    """What the outcomes are worked out of: around the windows' ends, and whole seasons before."""
    step_ms = bound.manifest.window.step_ms
    hold_ms = (max(bound.manifest.hold_steps) + 2) * step_ms
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    for each in wanted:
        horizon_ms = round(each.horizon_s * 1000)
        season_ms = seasons(horizon_ms // step_ms, season_of(bound)) * step_ms
        # The naive forecast looks at the horizon before the end.
        now = each.made_ms - horizon_ms - hold_ms, each.made_ms + horizon_ms
        then = each.made_ms - season_ms - hold_ms, each.made_ms - season_ms + horizon_ms
        for source in sources_of(bound):
            number = bound.series[told[each.forecaster_id].watched][source]
            for place, (first, last) in enumerate((now, then)):
                known = spans.get((number, place), (first, last))
                spans[number, place] = min(first, known[0]), max(last, known[1])
    return [(number, first, last) for (number, _), (first, last) in spans.items()]


def sources_of(bound: Bound) -> set[str]:
    """What the targets are computed from."""
    names = {name for target in bound.manifest.targets for name in target.of}
    return {each.source for each in bound.manifest.inputs if each.name in names}


def _null(value: Any) -> Any:  # noqa: ANN401 - of any column
    return None if isinstance(value, float) and not math.isfinite(value) else value
