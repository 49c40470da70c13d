"""Market: prices, what models expected of them, and whether these models are worth anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board
from grafana.boards.symbol_forecasts import FORECASTERS, HORIZON, SERIES, coverage, expected, models, skill
from grafana.fields import (
    colour,
    filled_to,
    limits,
    named,
    on_the_right,
    thick,
    words,
)
from grafana.incidents import incidents, marks
from grafana.layout import Row
from grafana.panels import About, candles, lines, number, states
from grafana.query import series, table
from grafana.variables import Asked, Given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel

_NO_PRICE: Final = "no prices in this time"
# Anomalies of the same device in a metric of the same symbol.
_OF_SYMBOL: Final = f"""exists (
      select from series s where s.series_id = {SERIES}
        and (a.group_id, a.node_id, a.device_id) = (s.group_id, s.node_id, s.device_id)
        and split_part(a.metric, '/', 1) = split_part(s.metric, '/', 1))"""
# A trend is smooth: how it stood at the end of each interval is enough, and a few hundred rows are read, not all.
_TREND: Final = f"""
    generate_series($__timeFrom()::timestamptz, least($__timeTo(), now()), '$__interval') as time
    cross join lateral (
      select level, slope_per_s, slope_se, regime from trend
      where series_id = {SERIES} and at > time - '$__interval'::interval and at <= time
      order by at desc limit 1) stood
"""
_SCORED: Final = f"""
    from {FORECASTERS} join forecast_score c using (forecaster_id)
    where c.horizon_s = {HORIZON} and c.target_at > now() - interval '1 day'
"""
REGIMES: Final = {
    "0": ("flat", colours.OFF),
    "1": ("up", colours.GOOD),
    "2": ("down", colours.BAD),
    "3": ("changed", colours.NOTE),
}
REGIME: Final = "case {} when 'up' then 1 when 'down' then 2 when 'changed' then 3 else 0 end"


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.MARKET,
        "Market",
        "Where does the price go, what did the models say, and are they better than saying that nothing changes?",
        rows=(
            Row(4, (_price(), _regime_now(), _skill_of_a_day(), _coverage_of_a_day())),
            Row(13, (_candles(),)),
            Row(11, (expected(),)),
            Row(8, (_trend(), _regime()), "Trend"),
            Row(9, (skill(), coverage()), "Are the forecasts worth anything?"),
            Row(9, (models(),)),
            Row(9, (_unusual(),), "What was unusual"),
        ),
        variables=_variables(),
        marks=(marks(_OF_SYMBOL),),
        # A fan needs room ahead of now.
        from_="now-3h",
        to="now+20m",
    )


def _variables() -> Sequence[Asked | Given]:
    return (
        Asked(
            "symbol",
            "Symbol",
            """
            select series_id as __value,
                   split_part(metric, '/', 1) || ' of ' || concat_ws('/', group_id, node_id, device_id) as __text
            from series where metric like '%/price' and kind = 'numeric' order by 2
            """,
        ),
        Given("bar", "Bar", {"1 min": "60", "5 min": "300", "1 hour": "3600", "1 day": "86400"}),
        Asked(
            "model",
            "Model",
            f"""
            select distinct f.model from forecaster f join series s on s.series_id = {SERIES}
              and (f.group_id, f.node_id, f.device_id) = (s.group_id, s.node_id, s.device_id)
            where f.target = 'price' order by 1
            """,
        ),
        Asked(
            "horizon",
            "Ahead, s",
            f"""
            select distinct horizon_s::int from {FORECASTERS}
            cross join lateral (
              select distinct horizon_s from forecast e
              where e.forecaster_id = f.forecaster_id and e.made_at > now() - interval '7 days') told
            order by 1
            """,
        ),
    )


def _price() -> AnyPanel:
    return number(
        About("Price", "What was it last?", units.NONE, _NO_PRICE),
        series(f"""
            select bucket_at as time, last as price
            from reading_bucketed(array[{SERIES}], $__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        spark=True,
    )


def _regime_now() -> AnyPanel:
    return number(
        About("Regime", "Does it go anywhere, by its trend?", units.NONE, "no trend in this time"),
        table(f"""
            select {REGIME.format("regime")} as regime from trend
            where series_id = {SERIES} and $__timeFilter(at) order by at desc limit 1
        """),
        meanings=words(REGIMES),
    )


def _skill_of_a_day() -> AnyPanel:
    return number(
        About(
            "Skill of a day",
            "MASE: errors of the model by those of the forecast that nothing changes. Below 1 it is better.",
            units.NONE,
            "nothing was scored within a day",
        ),
        table(f"""
            select sum(abs(c.error)) / nullif(sum(abs(c.naive_error)), 0) as mase {_SCORED}
              and c.naive_error is not null
        """),
        limits=limits((1, colours.BAD), base=colours.GOOD),
    )


def _coverage_of_a_day() -> AnyPanel:
    return number(
        About(
            "Coverage of a day",
            "How often did what came lie between p10 and p90? Four in five times it should.",
            units.SHARE,
            "nothing was scored within a day",
        ),
        table(f"select avg(c.is_covered::int)::float8 as coverage {_SCORED}"),
        limits=limits((0.6, colours.NOTE), (0.7, colours.GOOD), (0.9, colours.NOTE), base=colours.BAD),
    )


def _candles() -> AnyPanel:
    return candles(
        About(
            "Price and volume",
            "How did the price move? A candle is a bar of the chosen width, or several where more would not be seen.",
            units.NONE,
            "no bars of this width in this time",
        ),
        series(f"""
            select time_bucket(greatest('$__interval', make_interval(secs => ${{bar:sqlstring}}::int)), starts_at)
                     as time, first(open, starts_at) as open, max(high) as high, min(low) as low,
                   last(close, starts_at) as close, sum(volume) as volume
            from bar
            where series_id = {SERIES} and width_s = ${{bar:sqlstring}}::int and $__timeFilter(starts_at)
            group by 1 order by 1
        """),
    )


def _trend() -> AnyPanel:
    beside = on_the_right("slope an hour")
    return lines(
        About(
            "Level and slope",
            "Where does the trend stand, and how steep is it? The band is twice the slope's standard error.",
            units.NONE,
            "no trend in this time",
        ),
        series(f"""
            select time, level, slope_per_s * 3600 as "slope an hour",
                   (slope_per_s - 2 * slope_se) * 3600 as "at least", (slope_per_s + 2 * slope_se) * 3600 as "at most"
            from {_TREND} order by 1
        """),
        fields=(
            named("level", colour(colours.MEASURED)),
            named("slope an hour", colour(colours.EXPECTED), *beside),
            named("at most", *filled_to("at least", 15), thick(0), colour(colours.BAND), *beside),
            named("at least", thick(0), colour(colours.BAND), *beside),
        ),
    )


def _regime() -> AnyPanel:
    return states(
        About("Regime", "When did it rise, fall, or turn?", units.NONE, "no trend in this time"),
        series(f"""
            select time, {REGIME.format("regime")} as regime from {_TREND} order by 1
        """),
        meanings=words(REGIMES),
    )


def _unusual() -> AnyPanel:
    return incidents("Incidents", "What was unusual in this symbol's quotes?", _OF_SYMBOL, "Node", "Group", "Device")
