"""Plant: the water works as a picture, and what its sensors, its limits and the models say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board
from grafana.boards.plant_picture import METRICS, works
from grafana.fields import (
    colour,
    dashed,
    fan,
    like,
    limits,
    named,
    on_the_right,
    stepped,
    thick,
    unit,
    width,
    words,
)
from grafana.incidents import SHOWN, incidents, marks
from grafana.layout import Row
from grafana.panels import About, lines, rows, states
from grafana.query import readings, series, table
from grafana.variables import Asked, group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.fields import Field
    from grafana.layout import AnyPanel

_LINES: Final = (
    "s.group_id = ${group:sqlstring} and s.node_id || '/' || s.device_id in (${water:sqlstring}, ${quality:sqlstring})"
)
_DEVICES: Final = (
    "a.group_id = ${group:sqlstring} and a.node_id || '/' || a.device_id in (${water:sqlstring}, ${quality:sqlstring})"
)
_NOTHING: Final = "nothing was read of this in this time"


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.PLANT,
        "Plant",
        "Does water come in, get clean, and reach the town; what is out of its limits, and what is unusual?",
        rows=(
            Row(14, (works(_of(*METRICS)),)),
            Row(9, (_levels(), _flows()), "Water"),
            Row(9, (_ahead(), _alarms())),
            Row(9, (_bearings(), _vibration()), "Pumps"),
            Row(9, (_drives(), _power())),
            Row(9, (_chlorine(), _acidity(), _turbidity()), "Quality"),
            Row(10, (_unusual(), _evidence()), "What was unusual"),
        ),
        variables=(
            group(),
            _line("water", "Water", "tank1/level"),
            _line("quality", "Quality", "quality/ph"),
        ),
        marks=(marks(_DEVICES),),
        from_="now-1h",
        refresh="10s",
    )


def _line(name: str, label: str, by: str) -> Asked:
    """A device that has a certain metric: in a plant of one agent both are the same."""
    return Asked(
        name,
        label,
        f"""
        select distinct node_id || '/' || device_id from series
        where group_id = ${{group:sqlstring}} and metric = '{by}' and kind = 'numeric' order by 1
        """,
    )


def _of(*metrics: str) -> str:
    listed = ", ".join(f"'{metric}'" for metric in metrics)
    return f"{_LINES} and s.metric in ({listed})"


def _levels() -> AnyPanel:
    return lines(
        About(
            "Tank levels",
            "Do both tanks hold what they are set to, within 0.5 and 4.5 m, where the alarms are?",
            units.METRES,
            _NOTHING,
        ),
        readings(_of("tank1/level", "tank2/level", "tank1/level_setpoint", "tank2/level_setpoint")),
        fields=(like("/setpoint/", dashed(), stepped(), colour(colours.SETPOINT)),),
        limits=limits((0.5, colours.LIMIT), (4.5, colours.LIMIT), base="transparent"),
        floor=0,
        ceiling=5,
        axis="m",
    )


def _flows() -> AnyPanel:
    return lines(
        About(
            "Flows",
            "Does as much come in as goes out? Where it doesn't and no level changes, there is a leak.",
            units.CUBIC_METRES_PER_HOUR,
            _NOTHING,
        ),
        readings(_of("intake/flow", "pump1/flow", "pump2/flow", "quality/flow")),
        floor=0,
        axis="m³/h",
    )


def _ahead() -> AnyPanel:
    return lines(
        About(
            "Clean water, and what was expected",
            "Was the level where the model had said it would be, the longest time ahead? The band is p10 to p90.",
            units.METRES,
            "no model forecasts this level, or none has yet",
        ),
        readings(_of("tank2/level"), name="'level'"),
        series("""
            with told as (
              select f.forecaster_id, f.place, e.horizon_s
              from forecaster f
              cross join lateral (
                select max(horizon_s) as horizon_s from forecast e
                where e.forecaster_id = f.forecaster_id
                  and e.made_at = (select max(made_at) from forecast n where n.forecaster_id = f.forecaster_id
                                   and n.made_at between $__timeFrom() and $__timeTo())) e
              where f.group_id = ${group:sqlstring} and f.node_id || '/' || f.device_id = ${water:sqlstring}
                and f.target = 'level' and f.place = 'cloud')
            select $__timeGroup(e.target_at, '$__interval') as time,
                   avg(e.p10) as p10, avg(e.p50) as p50, avg(e.p90) as p90
            from told join forecast e using (forecaster_id, horizon_s)
            where $__timeFilter(e.target_at) and e.made_at >= $__timeFrom()::timestamptz - interval '2 hours'
              and e.made_at <= $__timeTo()
            group by 1 order by 1
        """),
        fields=(
            named("level", colour(colours.MEASURED), thick(2)),
            *fan(colours.EXPECTED),
        ),
        axis="m",
    )


def _alarms() -> AnyPanel:
    return states(
        About("Alarms and drives", "Which alarm was on, and which pump ran, when?", units.NONE, _NOTHING),
        series(f"""
            select r.bucket_at as time, s.metric as metric,
                   case when s.metric like '%/running' then r.last else r.max * 2 end as value
            from series s
            cross join lateral reading_bucketed(array[s.series_id], $__timeFrom(), $__timeTo(), '$__interval') r
            where s.kind = 'numeric' and {_LINES} and s.datatype = 11
              and (s.metric like '%alarm%' or s.metric like '%/running' or s.metric like '%overload')
            order by 1
        """),
        meanings=words({"0": ("off", colours.OFF), "1": ("on", colours.GOOD), "2": ("alarm", colours.BAD)}),
    )


def _bearings() -> AnyPanel:
    return lines(
        About("Bearings", "Does a bearing run hot?", units.CELSIUS, _NOTHING),
        readings(_of("pump1/bearing_temperature", "pump2/bearing_temperature"), value="max"),
        axis="°C",
    )


def _vibration() -> AnyPanel:
    return lines(
        About(
            "Vibration",
            "Does a pump shake? From 4.5 mm/s on a pump of this size wants a look, from 7.1 on a stop (ISO 10816-7).",
            units.MILLIMETRES_PER_SECOND,
            _NOTHING,
        ),
        readings(_of("pump1/vibration", "pump2/vibration"), value="max"),
        limits=limits((4.5, colours.WARNING), (7.1, colours.LIMIT), base="transparent"),
        floor=0,
        axis="mm/s",
    )


def _drives() -> AnyPanel:
    return lines(
        About("Drives", "How fast do the pumps turn, and what do they draw?", units.REVOLUTIONS, _NOTHING),
        readings(_of("pump1/speed", "pump2/speed", "pump1/current", "pump2/current")),
        fields=(like("/current/", unit(units.AMPERE), *on_the_right("A")),),
        floor=0,
        axis="rpm",
    )


def _power() -> AnyPanel:
    return lines(
        About("Power", "What does the plant draw from the mains, and what do the pumps of it?", units.WATT, _NOTHING),
        readings(_of("mains/power", "pump1/power", "pump2/power")),
        axis="W",
    )


def _chlorine() -> AnyPanel:
    return lines(
        About("Free chlorine", "Is it held where it is set to?", units.MILLIGRAMS_PER_LITRE, _NOTHING),
        readings(_of("quality/chlorine", "chlorine/setpoint")),
        fields=_held(),
        floor=0,
        axis="mg/L",
    )


def _acidity() -> AnyPanel:
    return lines(
        About("pH", "Is it held, within the 6.5 to 9.5 of drinking water?", units.PH, _NOTHING),
        readings(_of("quality/ph", "ph/setpoint")),
        fields=_held(),
        limits=limits((6.5, colours.LIMIT), (9.5, colours.LIMIT), base="transparent"),
        axis="pH",
    )


def _turbidity() -> AnyPanel:
    return lines(
        About("Turbidity", "Does the filter work? Above 0.5 NTU behind it there is an alarm.", units.NTU, _NOTHING),
        readings(_of("quality/turbidity", "quality/raw_turbidity")),
        fields=(like("/raw/", *on_the_right("NTU, river")),),
        limits=limits((0.5, colours.LIMIT), base="transparent"),
        floor=0,
        axis="NTU",
    )


def _held() -> Sequence[Field]:
    return (like("/setpoint/", dashed(), stepped(), colour(colours.SETPOINT)),)


def _evidence() -> AnyPanel:
    return rows(
        About(
            "The readings that made them",
            "What was read, what was expected, and how far is that from usual?",
            units.NONE,
            "nothing unusual",
        ),
        table(f"""
            select a.started_at as "Incident of", e.at as "Read at", e.metric as "Metric", e.value as "Value",
                   e.expected as "Expected", e.score as "Score"
            from (
              select started_at, evidence from anomaly a
              where {_DEVICES} and {SHOWN}
              order by started_at desc limit 10) a
            cross join lateral jsonb_to_recordset(a.evidence)
              as e (metric text, at timestamptz, value float8, expected float8, score float8)
            order by 1 desc, 2 limit 200
        """),
        fields=tuple(named(each, unit(units.TIME), width(160)) for each in ("Incident of", "Read at")),
    )


def _unusual() -> AnyPanel:
    return incidents(
        "Incidents", "What was unusual, for how long, and who says so?", _DEVICES, "Node", "Group", "Device"
    )
