"""Node, continued: what a node says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, units
from grafana.fields import limits, named, on_the_right, unit, words
from grafana.nodes import CLOCK, LINE_TAKEN, SPOOL_FULL, WARM
from grafana.panels import About, lines, number
from grafana.query import readings, series, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
    from grafana_foundation_sdk.models.dashboard import ValueMap

    from grafana.layout import AnyPanel
    from grafana.query import Sql

_OWN: Final = "s.group_id = ${group:sqlstring} and s.node_id = ${node:sqlstring} and s.device_id = ''"
_NO_HEALTH: Final = "the node has told no health in this time"
_NOT_TOLD: Final = "not told within a day"


def machine(node: str) -> Sequence[AnyPanel]:
    """What it is and stands on, of the node that meets a condition."""
    return (*_agent(node), *_room(node))


def _agent(node: str) -> Sequence[AnyPanel]:
    """Its version, and what it knows of the time."""
    return (
        _told(node, About("Version", "Which agent runs there?", units.NONE, _NOT_TOLD), "version", text=True),
        _told(
            node,
            About("Clock", "Does the kernel call the system's clock right?", units.NONE, _NOT_TOLD),
            "clock_synchronised",
            limits((1, colours.GOOD), base=colours.WARNING),
            words(CLOCK),
        ),
        _told(
            node,
            About(
                "Clock offset",
                "By how much is the system's clock ahead of readings' times? Where it was set back, they wait for it.",
                units.MILLISECONDS,
                f"{_NOT_TOLD}, or the time is not known",
            ),
            "clock_offset_ms",
        ),
    )


def _room(node: str) -> Sequence[AnyPanel]:
    """How warm it is, and how much room is left on it."""
    return (
        _told(
            node,
            About("Processor", "How warm is it? Many slow down from 80 °C on.", units.CELSIUS, "not measured there"),
            "temperature_celsius",
            limits(*WARM, base=colours.GOOD),
        ),
        _told(
            node,
            About(
                "Disk free",
                "How much room is left where its spool lies? Of the last twentieth, or 64 MiB, it takes nothing.",
                units.BYTES,
                _NOT_TOLD,
            ),
            "disk_free_bytes",
        ),
        _told(
            node,
            About("Spool full", "How much of what it may keep is taken?", units.SHARE, _NOT_TOLD),
            "spool_share",
            limits(*SPOOL_FULL, base=colours.GOOD),
        ),
    )


def _told(
    node: str,
    about: About,
    column: str,
    steps: ThresholdsConfig | None = None,
    meanings: ValueMap | None = None,
    *,
    text: bool = False,
) -> AnyPanel:
    query = table(f"select {column} from node_health where {node}")
    return number(about, query, limits=steps, meanings=meanings, text=text)


def spool() -> AnyPanel:
    """How much it keeps, on disk and in memory."""
    return lines(
        About("Spool", "Does what it keeps get delivered, or pile up?", units.COUNT, _NO_HEALTH),
        readings(
            f"{_OWN} and s.metric in ('Health/Spool Batches', 'Health/Spool Buffered', 'Health/Spool Bytes')",
            value="max",
            name="replace(s.metric, 'Health/Spool ', '')",
        ),
        fields=(named("Bytes", unit(units.BYTES), *on_the_right("bytes")),),
        floor=0,
        axis="batches",
    )


def polls() -> AnyPanel:
    """How often each source is polled."""
    return lines(
        About(
            "Polls",
            "How often is each source polled? A fall means ticks that are skipped, or polls that take too long.",
            units.PER_SECOND,
            _NO_HEALTH,
        ),
        _rate("Polls"),
        floor=0,
    )


def failures() -> AnyPanel:
    """How often that failed, or was not done."""
    return lines(
        About(
            "Polls that failed or were missed",
            "Which source fails, and which cannot keep up with its schedule?",
            units.PER_SECOND,
            _NO_HEALTH,
        ),
        _rate("Failures"),
        _rate("Skipped Ticks"),
        floor=0,
    )


def _rate(counter: str) -> Sql:
    """By how much a counter of each source rises in a second; it begins anew with the agent."""
    return series(f"""
        select time, metric, greatest(value - lag(value) over counted, 0)
                             / extract(epoch from time - lag(time) over counted)::float8 as value
        from (
          select r.bucket_at as time, replace(s.metric, 'Health/', '') as metric, r.last as value
          from series s
          cross join lateral reading_bucketed(array[s.series_id], $__timeFrom(), $__timeTo(), '$__interval') r
          where s.kind = 'numeric' and {_OWN} and s.metric like 'Health/%/{counter}') told
        window counted as (partition by metric order by time)
        order by time
    """)


def lines_taken() -> AnyPanel:
    """How busy its Modbus lines are."""
    return lines(
        About(
            "Lines",
            "How much of its interval does a poll take of each Modbus line? From all of it on polls are missed.",
            units.SHARE,
            "it has no Modbus line, or told nothing in this time",
        ),
        readings(
            f"{_OWN} and s.metric like 'Health/%/Line Occupancy'", value="max", name="split_part(s.metric, '/', 2)"
        ),
        floor=0,
        ceiling=1,
        limits=limits(*LINE_TAKEN, base="transparent"),
    )


def quotas() -> AnyPanel:
    """What is left of what its APIs allow."""
    return lines(
        About(
            "Quotas",
            "How many requests are left of each API's day or month?",
            units.COUNT,
            "it asks no API that has a quota, or told nothing in this time",
        ),
        readings(
            f"{_OWN} and s.metric like 'Health/%/Quota Left %'",
            value="min",
            name="split_part(s.metric, '/', 2) || lower(replace(split_part(s.metric, '/', 3), 'Quota Left', ','))",
        ),
        floor=0,
    )


def warmth() -> AnyPanel:
    """How warm its processor is."""
    return lines(
        About(
            "Temperature",
            "Does its processor run hot? Then look at the cabinet, before it slows down.",
            units.CELSIUS,
            "this machine measures none, or told nothing in this time",
        ),
        readings(f"{_OWN} and s.metric = 'Health/Temperature'", value="max", name="'processor'"),
        limits=limits(*WARM, base="transparent"),
    )


def memory() -> AnyPanel:
    """What its agent takes."""
    return lines(
        About("Memory", "Does its agent need ever more of it?", units.MEBIBYTES, _NO_HEALTH),
        readings(f"{_OWN} and s.metric = 'Health/Memory'", name="'memory'"),
        floor=0,
    )
