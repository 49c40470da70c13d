"""Node, continued: what a node says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import units
from grafana.fields import (
    named,
    on_the_right,
    unit,
)
from grafana.panels import About, lines
from grafana.query import readings, series

if TYPE_CHECKING:
    from grafana.layout import AnyPanel
    from grafana.query import Sql

_OWN: Final = "s.group_id = ${group:sqlstring} and s.node_id = ${node:sqlstring} and s.device_id = ''"
_NO_HEALTH: Final = "the node has told no health in this time"


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


def memory() -> AnyPanel:
    """What its agent takes."""
    return lines(
        About("Memory", "Does its agent need ever more of it?", units.MEBIBYTES, _NO_HEALTH),
        readings(f"{_OWN} and s.metric = 'Health/Memory'", name="'memory'"),
        floor=0,
    )
