"""Pipeline, continued: what was set aside, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, units
from grafana.fields import (
    colour,
    lamp,
    named,
    thresholds,
    unit,
    width,
)
from grafana.panels import About, lines, rows
from grafana.query import series, table

if TYPE_CHECKING:
    from grafana.layout import AnyPanel

# Numbers in a reason would make each its own kind.
_REASON: Final = "left(regexp_replace(reason, '[0-9]+', '#', 'g'), 80)"


def letters() -> AnyPanel:
    """What was set aside, over time."""
    return lines(
        About("Dead letters", "What is set aside, and why?", units.COUNT, "nothing was set aside in this time"),
        series(f"""
            select $__timeGroup(set_aside_at, '$__interval') as time, {_REASON} as metric, count(*) as value
            from dead_letter where $__timeFilter(set_aside_at) group by 1, 2 order by 1
        """),
        floor=0,
        bars=True,
        stacked=True,
        least="1m",
    )


def reasons() -> AnyPanel:
    """The same by reason and node."""
    return rows(
        About(
            "By reason and node",
            "Whose payloads are set aside, and were they sent again? `python -m stream deadletter retry` does that.",
            units.COUNT,
            "nothing was set aside in this time",
        ),
        table(f"""
            select {_REASON} as "Reason",
                   split_part(mqtt_topic, '/', 2) || '/' || split_part(mqtt_topic, '/', 4) as "Node",
                   count(*) as "Letters", count(retried_at) as "Sent again", max(set_aside_at) as "Last"
            from dead_letter where $__timeFilter(set_aside_at) group by 1, 2 order by 3 desc limit 50
        """),
        fields=(
            named("Last", unit(units.AGO), width(130)),
            named("Letters", width(80)),
            named("Sent again", width(90)),
        ),
    )


def accounting() -> AnyPanel:
    """Batches that were made, stored and missed, by node."""
    return rows(
        About(
            "Batches by node",
            "Of what nodes made, how much is stored, and what is missing: still to come, given up, or from before?",
            units.COUNT,
            "no node has delivered a numbered batch",
        ),
        table("""
            select group_id || '/' || node_id as "Node", produced::float8 as "Made", stored::float8 as "Stored",
                   undelivered::float8 as "Undelivered", given_up::float8 as "Given up",
                   earlier::float8 as "From before", coalesce(declared_gaps, 0) as "Declared gaps", heard_at as "Heard"
            from node_accounting order by undelivered + given_up desc, 1 limit 500
        """),
        fields=(
            named("Heard", unit(units.AGO), width(130)),
            *(
                named(each, lamp(), thresholds((1, colours.BAD), base="transparent"))
                for each in ("Undelivered", "Given up")
            ),
        ),
    )


def told_gaps() -> AnyPanel:
    """Gaps over time."""
    return lines(
        About(
            "Gaps that were told",
            "When did nodes declare that something is lost, and when was a hole found?",
            units.COUNT,
            "no gap was told in this time",
        ),
        series("""
            select $__timeGroup(declared_at, '$__interval') as time, coalesce(state, 'declared') as metric,
                   count(*) as value
            from gap where $__timeFilter(declared_at) group by 1, 2 order by 1
        """),
        fields=(
            named("open", colour(colours.WARNING)),
            named("given_up", colour(colours.BAD)),
            named("filled", colour(colours.GOOD)),
            named("declared", colour(colours.NOTE)),
        ),
        floor=0,
        bars=True,
        stacked=True,
        least="1m",
    )
