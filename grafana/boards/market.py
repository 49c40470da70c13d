"""Market: prices, what models expected of them, and whether these models are worth anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board, Marks
from grafana.fields import (
    colour,
    dashed,
    filled_to,
    lamp,
    like,
    limits,
    named,
    on_the_right,
    thick,
    thresholds,
    unit,
    width,
    words,
)
from grafana.layout import Row
from grafana.panels import About, candles, lines, number, rows, states
from grafana.query import series, table
from grafana.variables import Asked, Given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel
    from grafana.query import Sql

_SERIES: Final = "nullif(${symbol:sqlstring}, '')::int"
_NO_PRICE: Final = "no prices in this time"
_NO_FORECAST: Final = "no model has told anything of this symbol in this time"
# What looks at the chosen symbol: its device, and its name as the subject.
_FORECASTERS: Final = f"""
    forecaster f join series s on s.series_id = {_SERIES}
      and (f.group_id, f.node_id, f.device_id, f.subject)
          = (s.group_id, s.node_id, s.device_id, split_part(s.metric, '/', 1))
      and f.target = 'price' and f.model = ${{model:sqlstring}}
"""
_HORIZON: Final = "nullif(${horizon:sqlstring}, '')::float8"
# A trend is smooth: how it stood at the end of each interval is enough, and a few hundred rows are read, not all.
_TREND: Final = f"""
    generate_series($__timeFrom()::timestamptz, least($__timeTo(), now()), '$__interval') as time
    cross join lateral (
      select level, slope_per_s, slope_se, regime from trend
      where series_id = {_SERIES} and at > time - '$__interval'::interval and at <= time
      order by at desc limit 1) stood
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
            Row(4, _numbers()),
            Row(13, ((_candles(), 24),)),
            Row(11, ((_fan(), 24),)),
            Row(8, ((_trend(), 12), (_regime(), 12)), "Trend"),
            Row(9, ((_skill(), 12), (_coverage(), 12)), "Are the forecasts worth anything?"),
            Row(9, ((_models(), 24),)),
            Row(9, ((_anomalies(), 24),), "What was unusual"),
        ),
        variables=(
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
                select distinct f.model from forecaster f join series s on s.series_id = {_SERIES}
                  and (f.group_id, f.node_id, f.device_id) = (s.group_id, s.node_id, s.device_id)
                where f.target = 'price' order by 1
                """,
            ),
            Asked(
                "horizon",
                "Ahead, s",
                f"""
                select distinct horizon_s::int from {_FORECASTERS}
                cross join lateral (
                  select distinct horizon_s from forecast e
                  where e.forecaster_id = f.forecaster_id and e.made_at > now() - interval '7 days') told
                order by 1
                """,
            ),
        ),
        marks=(
            Marks(
                "Anomalies",
                table(f"""
                    select a.started_at as time, a.ended_at as timeend, a.detector || ' in ' || a.metric as text,
                           a.place as tags
                    from anomaly a join series s on s.series_id = {_SERIES}
                      and (a.group_id, a.node_id, a.device_id) = (s.group_id, s.node_id, s.device_id)
                      and split_part(a.metric, '/', 1) = split_part(s.metric, '/', 1)
                    where a.started_at <= $__timeTo() and (a.ended_at is null or a.ended_at >= $__timeFrom())
                    limit 200
                """),
                colours.BAD,
            ),
        ),
        # A fan needs room ahead of now.
        from_="now-3h",
        to="now+20m",
    )


def _numbers() -> Sequence[tuple[AnyPanel, int]]:
    skill = f"""
        from {_FORECASTERS} join forecast_score c using (forecaster_id)
        where c.horizon_s = {_HORIZON} and c.target_at > now() - interval '1 day'
    """
    return (
        (
            number(
                About("Price", "What was it last?", units.NONE, _NO_PRICE),
                series(f"""
                    select bucket_at as time, last as price
                    from reading_bucketed(array[{_SERIES}], $__timeFrom(), $__timeTo(), '$__interval') order by 1
                """),
                spark=True,
            ),
            6,
        ),
        (
            number(
                About("Regime", "Does it go anywhere, by its trend?", units.NONE, "no trend in this time"),
                table(f"""
                    select {REGIME.format("regime")} as regime from trend
                    where series_id = {_SERIES} and $__timeFilter(at) order by at desc limit 1
                """),
                meanings=words(REGIMES),
            ),
            6,
        ),
        (
            number(
                About(
                    "Skill of a day",
                    "MASE: errors of the model by those of the forecast that nothing changes. Below 1 it is better.",
                    units.NONE,
                    "nothing was scored within a day",
                ),
                table(f"""
                    select sum(abs(c.error)) / nullif(sum(abs(c.naive_error)), 0) as mase {skill}
                      and c.naive_error is not null
                """),
                limits=limits((1, colours.BAD), base=colours.GOOD),
            ),
            6,
        ),
        (
            number(
                About(
                    "Coverage of a day",
                    "How often did what came lie between p10 and p90? Four in five times it should.",
                    units.SHARE,
                    "nothing was scored within a day",
                ),
                table(f"select avg(c.is_covered::int)::float8 as coverage {skill}"),
                limits=limits((0.6, colours.NOTE), (0.7, colours.GOOD), (0.9, colours.NOTE), base=colours.BAD),
            ),
            6,
        ),
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
            where series_id = {_SERIES} and width_s = ${{bar:sqlstring}}::int and $__timeFilter(starts_at)
            group by 1 order by 1
        """),
    )


def _fan() -> AnyPanel:
    return lines(
        About(
            "What was expected",
            "Does the price stay within what was said of it? The bands are p10 to p90 as they were told the chosen "
            "time ahead; what is ahead of now is the newest fan, of all horizons.",
            units.NONE,
            _NO_FORECAST,
        ),
        series(f"""
            select bucket_at as time, last as price
            from reading_bucketed(array[{_SERIES}], $__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        *(_expected(place) for place in ("cloud", "edge")),
        fields=(
            named("price", colour(colours.MEASURED), thick(2)),
            *(
                field
                for place, name in (("cloud", colours.CLOUD), ("edge", colours.EDGE))
                for field in (
                    named(f"{place} p90", *filled_to(f"{place} p10", 18), thick(0), colour(name)),
                    named(f"{place} p10", thick(0), colour(name)),
                    named(f"{place} p50", dashed(), colour(name)),
                )
            ),
        ),
    )


def _expected(place: str) -> Sql:
    """What was told a horizon ahead, by `$__interval`, and the newest fan beyond it."""
    return series(f"""
        with asked as (select f.forecaster_id from {_FORECASTERS} where f.place = '{place}'),
        newest as (
          select e.forecaster_id, e.made_at from asked
          cross join lateral (
            select forecaster_id, made_at from forecast e
            where e.forecaster_id = asked.forecaster_id and e.made_at <= $__timeTo()
              and e.made_at > $__timeTo()::timestamptz - interval '1 day'
            order by e.made_at desc limit 1) e
          order by e.made_at desc limit 1)
        select time, p10 as "{place} p10", p50 as "{place} p50", p90 as "{place} p90" from (
          select $__timeGroup(e.target_at, '$__interval') as time,
                 avg(e.p10) as p10, avg(e.p50) as p50, avg(e.p90) as p90
          from asked join forecast e using (forecaster_id)
          where e.horizon_s = {_HORIZON} and $__timeFilter(e.target_at)
            and e.made_at between $__timeFrom()::timestamptz - {_HORIZON} * interval '1 second' and $__timeTo()
            and e.target_at <= (select made_at from newest) + {_HORIZON} * interval '1 second'
          group by 1
          union all
          select e.target_at, e.p10, e.p50, e.p90 from newest join forecast e using (forecaster_id, made_at)
          where e.horizon_s > {_HORIZON}) told
        order by time
    """)


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


def _scored(value: str) -> Sql:
    return series(f"""
        select time_bucket(greatest('$__interval'::interval, '10 minutes'), c.target_at) as time, f.place as metric,
               {value} as value
        from {_FORECASTERS} join forecast_score c using (forecaster_id)
        where c.horizon_s = {_HORIZON} and $__timeFilter(c.target_at)
        group by 1, 2 order by 1
    """)


_PLACES: Final = (
    like("/^cloud/", colour(colours.CLOUD)),
    like("/^edge/", colour(colours.EDGE)),
)


def _skill() -> AnyPanel:
    return lines(
        About(
            "MASE, here and on the device",
            "Is the model better than saying that nothing changes? Below the line it is.",
            units.NONE,
            "nothing was scored in this time",
        ),
        _scored("sum(abs(c.error)) / nullif(sum(abs(c.naive_error)), 0)"),
        fields=_PLACES,
        limits=limits((1, colours.LIMIT), base="transparent"),
        floor=0,
        ceiling=1.5,
    )


def _coverage() -> AnyPanel:
    return lines(
        About(
            "Coverage, here and on the device",
            "Do four in five outcomes lie between p10 and p90? More means bands too wide, fewer too narrow.",
            units.SHARE,
            "nothing was scored in this time",
        ),
        _scored("avg(c.is_covered::int)::float8"),
        fields=_PLACES,
        limits=limits((0.8, colours.SETPOINT), base="transparent"),
        floor=0,
        ceiling=1,
    )


def _models() -> AnyPanel:
    return rows(
        About(
            "Models side by side",
            "Which version, where, is how good at which horizon, in this time?",
            units.NONE,
            "nothing was scored in this time",
        ),
        table(f"""
            select f.model as "Model", f.version as "Version", f.place as "Place", c.horizon_s as "Ahead",
                   count(*) as "Forecasts", avg(c.pinball) as "Pinball", avg(abs(c.error)) as "Mean error",
                   sum(abs(c.error)) / nullif(sum(abs(c.naive_error)), 0) as "MASE",
                   sum(abs(c.error)) / nullif(sum(abs(c.seasonal_error)), 0) as "MASE, season",
                   avg(c.is_covered::int)::float8 as "Coverage"
            from {_FORECASTERS} join forecast_score c using (forecaster_id)
            where $__timeFilter(c.target_at)
            group by 1, 2, 3, 4 order by 4, 3, 2
            limit 100
        """),
        fields=(
            named("Ahead", unit(units.SECONDS), width(80)),
            named("Forecasts", unit(units.COUNT)),
            named("Coverage", unit(units.SHARE)),
            *(
                named(each, lamp(), thresholds((1, colours.BAD), base=colours.GOOD))
                for each in ("MASE", "MASE, season")
            ),
        ),
    )


def _anomalies() -> AnyPanel:
    return rows(
        About("Incidents", "What was unusual in this symbol's quotes?", units.NONE, "nothing unusual in this time"),
        table(f"""
            select a.started_at as "Since", a.ended_at as "Until", a.metric as "Metric", a.detector as "Detector",
                   a.place as "Place", a.peak_score as "Peak", a.threshold as "Limit"
            from anomaly a join series s on s.series_id = {_SERIES}
              and (a.group_id, a.node_id, a.device_id) = (s.group_id, s.node_id, s.device_id)
              and split_part(a.metric, '/', 1) = split_part(s.metric, '/', 1)
            where a.started_at <= $__timeTo() and (a.ended_at is null or a.ended_at >= $__timeFrom())
            order by 1 desc limit 100
        """),
        fields=tuple(named(each, unit(units.TIME), width(160)) for each in ("Since", "Until")),
    )
