"""Market, continued: what models expected of a symbol, and how that came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, units
from grafana.fields import (
    colour,
    fan,
    lamp,
    like,
    limits,
    named,
    thick,
    thresholds,
    unit,
    width,
)
from grafana.panels import About, lines, rows
from grafana.query import series, table

if TYPE_CHECKING:
    from grafana.layout import AnyPanel
    from grafana.query import Sql

SERIES: Final = "nullif(${symbol:sqlstring}, '')::int"
NO_FORECAST: Final = "no model has told anything of this symbol in this time"
# What looks at the chosen symbol: its device, and its name as the subject.
FORECASTERS: Final = f"""
    forecaster f join series s on s.series_id = {SERIES}
      and (f.group_id, f.node_id, f.device_id, f.subject)
          = (s.group_id, s.node_id, s.device_id, split_part(s.metric, '/', 1))
      and f.target = 'price' and f.model = ${{model:sqlstring}}
"""
HORIZON: Final = "nullif(${horizon:sqlstring}, '')::float8"
_PLACES: Final = (
    like("/^cloud/", colour(colours.CLOUD)),
    like("/^edge/", colour(colours.EDGE)),
)


def expected() -> AnyPanel:
    """The price, the bands that were told of it, and the newest fan ahead of now."""
    return lines(
        About(
            "What was expected",
            "Does the price stay within what was said of it? The bands are p10 to p90 as they were told the chosen "
            "time ahead; what is ahead of now is the newest fan, of all horizons.",
            units.NONE,
            NO_FORECAST,
        ),
        series(f"""
            select bucket_at as time, last as price
            from reading_bucketed(array[{SERIES}], $__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        *(_expected(place) for place in ("cloud", "edge")),
        fields=(
            named("price", colour(colours.MEASURED), thick(2)),
            *fan(colours.CLOUD, of="cloud "),
            *fan(colours.EDGE, of="edge "),
        ),
    )


def _expected(place: str) -> Sql:
    """What was told a horizon ahead, by `$__interval`, and the newest fan beyond it."""
    return series(f"""
        with asked as (select f.forecaster_id from {FORECASTERS} where f.place = '{place}'),
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
          where e.horizon_s = {HORIZON} and $__timeFilter(e.target_at)
            and e.made_at between $__timeFrom()::timestamptz - {HORIZON} * interval '1 second' and $__timeTo()
            and e.target_at <= (select made_at from newest) + {HORIZON} * interval '1 second'
          group by 1
          union all
          select e.target_at, e.p10, e.p50, e.p90 from newest join forecast e using (forecaster_id, made_at)
          where e.horizon_s > {HORIZON}) told
        order by time
    """)


def _scored(value: str) -> Sql:
    return series(f"""
        select time_bucket(greatest('$__interval'::interval, '10 minutes'), c.target_at) as time, f.place as metric,
               {value} as value
        from {FORECASTERS} join forecast_score c using (forecaster_id)
        where c.horizon_s = {HORIZON} and $__timeFilter(c.target_at)
        group by 1, 2 order by 1
    """)


def skill() -> AnyPanel:
    """MASE over time."""
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


def coverage() -> AnyPanel:
    """The share of outcomes within the bands, over time."""
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


def models() -> AnyPanel:
    """Versions, places and horizons side by side."""
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
            from {FORECASTERS} join forecast_score c using (forecaster_id)
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
