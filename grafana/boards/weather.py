"""Weather: what is, and what was forecast of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board
from grafana.fields import colour, dashed, dots, fan, like, limits, named, on_the_right, thick, unit
from grafana.layout import Row
from grafana.panels import About, lines, number
from grafana.query import readings, series
from grafana.variables import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel
    from grafana.query import Sql

_PLACE: Final = "s.group_id || '/' || s.node_id || '/' || s.device_id = ${place:sqlstring}"
# OpenWeatherMap tells winds in m/s, others in km/h.
_KMH: Final = "case s.unit when 'm/s' then 3.6 else 1 end"
_NOTHING: Final = "no such reading came from this place in this time"
_NO_FORECAST: Final = "no model forecasts this place's weather, or none has yet"
_FORECASTERS: Final = """
    forecaster f where f.group_id || '/' || f.node_id || '/' || f.device_id = ${place:sqlstring}
      and f.target = ${target:sqlstring}
"""
_AHEAD: Final = "nullif(${horizon:sqlstring}, '')::float8"


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.WEATHER,
        "Weather",
        "How is the weather at this place, and did it come as forecast?",
        rows=(
            Row(4, _numbers()),
            Row(9, (_temperature(), _pressure()), "What is"),
            Row(9, (_wind(), _rain())),
            Row(11, (_expected(),), "What was forecast"),
            Row(9, (_errors(), _skill())),
        ),
        variables=_variables(),
        from_="now-24h",
        to="now+6h",
        refresh="1m",
    )


def _variables() -> Sequence[Asked]:
    return (
        Asked(
            "place",
            "Place",
            """
            select distinct group_id || '/' || node_id || '/' || device_id from series
            where kind = 'numeric' and metric in ('temperature_2m', 'temperature') order by 1
            """,
        ),
        Asked(
            "target",
            "Forecast of",
            """
            select distinct target from forecaster f
            where f.group_id || '/' || f.node_id || '/' || f.device_id = ${place:sqlstring} order by 1
            """,
        ),
        Asked(
            "horizon",
            "Ahead, s",
            f"""
            select distinct told.horizon_s::int from (select f.forecaster_id from {_FORECASTERS}) f
            cross join lateral (
              select distinct horizon_s from forecast e
              where e.forecaster_id = f.forecaster_id and e.made_at > now() - interval '7 days') told
            order by 1
            """,
        ),
    )


def _of(*metrics: str) -> str:
    listed = ", ".join(f"'{metric}'" for metric in metrics)
    return f"{_PLACE} and s.metric in ({listed})"


def _numbers() -> Sequence[AnyPanel]:
    def last(title: str, question: str, unit_id: str, *metrics: str) -> AnyPanel:
        about = About(title, question, unit_id, _NOTHING)
        return number(about, readings(_of(*metrics), value=f"last * {_KMH}", name=f"'{title}'"), spark=True)

    return (
        last("Temperature", "How warm is it?", units.CELSIUS, "temperature_2m", "temperature"),
        last("Humidity", "How damp is it?", units.PERCENT, "relative_humidity_2m", "relative_humidity"),
        last(
            "Air pressure",
            "Does a front come? Then it falls. (At the station's height, where the sea level's is not told.)",
            units.HECTOPASCAL,
            "pressure_msl",
            "surface_pressure",
        ),
        last("Wind", "How hard does it blow?", units.KILOMETRES_PER_HOUR, "wind_speed_10m", "wind_speed"),
    )


def _temperature() -> AnyPanel:
    return lines(
        About("Temperature", "How warm is it, and how warm does it feel?", units.CELSIUS, _NOTHING),
        readings(_of("temperature_2m", "temperature", "apparent_temperature", "dew_point_2m", "dew_point")),
        axis="°C",
    )


def _pressure() -> AnyPanel:
    return lines(
        About("Pressure and humidity", "Does a front come, and how damp is it?", units.HECTOPASCAL, _NOTHING),
        readings(_of("pressure_msl", "surface_pressure", "relative_humidity_2m", "relative_humidity")),
        fields=(like("/humidity/", unit(units.PERCENT), *on_the_right("%")),),
        axis="hPa",
    )


def _wind() -> AnyPanel:
    return lines(
        About(
            "Wind",
            "How hard does it blow, and from where? What was told in m/s is shown in km/h.",
            units.KILOMETRES_PER_HOUR,
            _NOTHING,
        ),
        readings(
            _of("wind_speed_10m", "wind_gusts_10m", "wind_direction_10m", "wind_speed", "wind_gusts", "wind_direction"),
            value=f"mean * {_KMH}",
        ),
        fields=(like("/direction/", unit(units.DEGREES), dots(), *on_the_right("from, °")),),
        floor=0,
        axis="km/h",
    )


def _rain() -> AnyPanel:
    return lines(
        About("Rain, clouds and sun", "Does it rain, and how much sky is seen?", units.MILLIMETRES, _NOTHING),
        readings(_of("precipitation", "rain", "rain_1h", "cloud_cover"), value="max"),
        fields=(like("/cloud/", unit(units.PERCENT), *on_the_right("%"), colour(colours.OFF)),),
        floor=0,
        axis="mm",
    )


def _expected() -> AnyPanel:
    return lines(
        About(
            "Forecast and what came",
            "Did what came lie within what had been said the chosen time ahead? The band is p10 to p90.",
            units.NONE,
            _NO_FORECAST,
        ),
        series(f"""
            select $__timeGroup(e.target_at, '$__interval') as time,
                   avg(e.p10) as p10, avg(e.p50) as p50, avg(e.p90) as p90
            from (select f.forecaster_id from {_FORECASTERS}) f join forecast e using (forecaster_id)
            where e.horizon_s = {_AHEAD} and $__timeFilter(e.target_at) and e.made_at <= $__timeTo()
              and e.made_at >= $__timeFrom()::timestamptz - {_AHEAD} * interval '1 second'
            group by 1 order by 1
        """),
        _scores("avg(c.actual)", "came"),
        fields=(
            named("came", colour(colours.MEASURED), thick(2)),
            *fan(colours.EXPECTED),
        ),
    )


def _scores(value: str, name: str) -> Sql:
    return series(f"""
        select $__timeGroup(c.target_at, '$__interval') as time, {value} as "{name}"
        from (select f.forecaster_id from {_FORECASTERS}) f join forecast_score c using (forecaster_id)
        where c.horizon_s = {_AHEAD} and $__timeFilter(c.target_at)
        group by 1 order by 1
    """)


def _errors() -> AnyPanel:
    return lines(
        About(
            "Mean error",
            "How far off is it, and how far off is saying that nothing changes, or that it is as a day ago?",
            units.NONE,
            _NO_FORECAST,
        ),
        _scores("avg(abs(c.error))", "model"),
        _scores("avg(abs(c.naive_error))", "nothing changes"),
        _scores("avg(abs(c.seasonal_error))", "as a season ago"),
        fields=(
            named("model", colour(colours.CLOUD)),
            named("nothing changes", colour(colours.NAIVE), dashed()),
            named("as a season ago", colour(colours.NOTE), dashed()),
        ),
        floor=0,
    )


def _skill() -> AnyPanel:
    return lines(
        About(
            "MASE by day",
            "Is it better than saying that nothing changes, below the line, at each horizon?",
            units.NONE,
            _NO_FORECAST,
        ),
        series(f"""
            select time, place || ' ' || make_interval(secs => horizon_s) as metric,
                   sum(error) / nullif(sum(naive_error), 0) as value
            from (
              select time_bucket(greatest('$__interval'::interval, '1 hour'), c.target_at) as time, f.place,
                     c.horizon_s, sum(abs(c.error)) as error, sum(abs(c.naive_error)) as naive_error
              from (select f.forecaster_id, f.place from {_FORECASTERS}) f
              join forecast_score c using (forecaster_id)
              where $__timeFilter(c.target_at)
              group by 1, 2, 3) scored
            group by 1, 2 order by 1
        """),
        limits=limits((1, colours.LIMIT), base="transparent"),
        floor=0,
    )
