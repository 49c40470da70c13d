"""Node: one device and its sources, how it fares, what it reads, what it was told and what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board, Marks
from grafana.boards.node_health import failures, lines_taken, machine, memory, polls, quotas, spool, warmth
from grafana.fields import (
    colour,
    filled_to,
    lamp,
    limits,
    named,
    said,
    thick,
    thresholds,
    unit,
    width,
    words,
)
from grafana.incidents import incidents
from grafana.layout import Row
from grafana.nodes import ENDS, LINE_TAKEN, ON_OFF, gaps, models
from grafana.panels import About, lines, number, rows, states
from grafana.query import series, table
from grafana.variables import Asked, group, node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel

_NODE: Final = "group_id = ${group:sqlstring} and node_id = ${node:sqlstring}"
_DEVICES: Final = "device_id = any(array[${device:sqlstring}]::text[])"
# Counts need no more than the widest roll-up that still tells how long ago the last reading came.
_COUNTED_BY: Final = """
    case when $__timeTo()::timestamptz - $__timeFrom()::timestamptz > interval '12 hours' then interval '1 hour'
         else interval '1 minute' end"""


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.NODE,
        "Node",
        "Does this device read all its sources, deliver what it reads, and do what it is told?",
        rows=(
            Row(4, _numbers()),
            Row(4, machine(_NODE)),
            Row(9, (_sources(), _presence()), widths=(14, 10)),
            Row(9, (spool(), polls()), "Health"),
            Row(9, (failures(), lines_taken(), quotas())),
            Row(9, (memory(), warmth())),
            Row(7, (_models(),)),
            Row(12, (_readings(),), "Readings"),
            Row(9, (_commands(), _events()), "What happened"),
            Row(9, (_unusual(), _missing())),
        ),
        variables=_variables(),
        marks=(
            Marks(
                "Gaps",
                table(f"""
                    select from_at as time, to_at as timeend, reason as text, kind as tags
                    from gap where {_NODE} and to_at >= $__timeFrom() and from_at <= $__timeTo() limit 100
                """),
                colours.WARNING,
            ),
        ),
        refresh="10s",
    )


def _variables() -> Sequence[Asked]:
    return (
        group(),
        node(),
        Asked(
            "device",
            "Device",
            """
            select distinct device_id from series
            where group_id = ${group:sqlstring} and node_id = ${node:sqlstring} and device_id <> '' order by 1
            """,
            several=True,
        ),
        Asked(
            "series",
            "Reading",
            """
            select series_id as __value, device_id || ': ' || metric || coalesce(' in ' || unit, '') as __text
            from series
            where group_id = ${group:sqlstring} and node_id = ${node:sqlstring} and kind = 'numeric'
              and device_id = any(array[${device:sqlstring}]::text[]) order by device_id, metric, version desc
            """,
        ),
    )


def _numbers() -> Sequence[AnyPanel]:
    def health(title: str, question: str, column: str, unit_id: str) -> AnyPanel:
        return number(
            About(title, question, unit_id, "no health within a day"),
            table(f"select {column} from node_health where {_NODE}"),
        )

    return (
        number(
            About("State", "Is the node connected, by the broker's word?", units.NONE, "never connected"),
            table(f"select online::int as online from node where {_NODE}"),
            meanings=words(ON_OFF),
            limits=limits((1, colours.GOOD), base=colours.BAD),
        ),
        number(
            About("Silent for", "How long ago was it heard last?", units.SECONDS, "never heard"),
            table(f"select extract(epoch from now() - last_seen_at)::float8 as silent from node where {_NODE}"),
            limits=limits((30, colours.NOTE), (120, colours.BAD), base=colours.GOOD),
        ),
        health("Running for", "When was its agent started?", "uptime_s", units.SECONDS),
        health("In the spool", "How many batches does it keep, not known to be durable?", "spool_batches", units.COUNT),
        health("Spoilt spools", "How many spools wait for somebody to look at them?", "spool_set_aside", units.COUNT),
        number(
            About("Missing batches", "How many of its batches never came?", units.COUNT, "nothing came yet"),
            table(f"select missing::float8 as missing from node_accounting where {_NODE}"),
            limits=limits((1, colours.BAD), base=colours.GOOD),
        ),
    )


def _sources() -> AnyPanel:
    return rows(
        About(
            "Devices",
            "Which sources and models does it have, is each connected, how much came, what does it take and have left?",
            units.COUNT,
            "no births came of its devices",
        ),
        table(f"""
            select s.device_id as "Device", (status.status = 'online')::int as "State", s.metrics as "Metrics",
                   came.good as "Readings", came.bad / nullif(came.good + came.bad, 0) as "Bad", came.last_at as "Last",
                   h.line_occupancy as "Line", coalesce(h.quota_left_day, h.quota_left_month) as "Left"
            from (
              select device_id, count(*) as metrics, array_agg(series_id) filter (where kind = 'numeric') as ids
              from series where {_NODE} and device_id <> '' and {_DEVICES} group by 1) s
            left join lateral (
              select status from node_status n
              where {_NODE} and n.device_id in (s.device_id, '') order by at desc limit 1) status on true
            left join lateral (
              select sum(n_good)::float8 as good, sum(n_bad)::float8 as bad, max(bucket_at) as last_at
              from unnest(s.ids) as id
              cross join lateral reading_bucketed(array[id], $__timeFrom(), $__timeTo(), {_COUNTED_BY})) came on true
            left join (select * from source_health where {_NODE}) h on h.device_id = s.device_id
            order by 1
        """),
        fields=(
            named(
                "State",
                said(ON_OFF),
                lamp(),
                width(80),
                thresholds((1, colours.GOOD), base=colours.BAD),
            ),
            named("Bad", unit(units.SHARE), width(80)),
            named("Last", unit(units.AGO), width(130)),
            named("Line", unit(units.SHARE), lamp(), thresholds(*LINE_TAKEN, base="transparent"), width(70)),
            named("Left", lamp(), thresholds((1, "transparent"), base=colours.BAD), width(70)),
        ),
    )


def _presence() -> AnyPanel:
    return states(
        About("Connections", "When were the node and its devices connected?", units.NONE, "nothing came or went"),
        series(f"""
            select time, metric, min(value) as value from (
              select ends.time, coalesce(nullif(d.device_id, ''), 'the node') as metric,
                     (stood.status = 'online')::int as value
              from (select distinct device_id from node_status where {_NODE}) d
              cross join {ENDS}
              cross join lateral (
                select status from node_status s
                where {_NODE} and s.device_id = d.device_id and s.at <= ends.time order by s.at desc limit 1) stood
              union all
              select $__timeGroup(at, '$__interval'), coalesce(nullif(device_id, ''), 'the node'),
                     last((status = 'online')::int, at)
              from node_status where {_NODE} and $__timeFilter(at) group by 1, 2) told
            group by 1, 2 order by 1
        """),
        meanings=words(ON_OFF),
        holds=True,
    )


def _readings() -> AnyPanel:
    return lines(
        About(
            "${series:text}",
            "What did it read? The line is the mean of each interval, the band its least and greatest.",
            units.NONE,
            "no reading in this time",
        ),
        series("""
            select bucket_at as time, mean, min as least, max as greatest
            from reading_bucketed(
              array[nullif(${series:sqlstring}, '')::int], $__timeFrom(), $__timeTo(), '$__interval')
            order by 1
        """),
        fields=(
            named("mean", colour(colours.MEASURED)),
            named("greatest", *filled_to("least", 15), thick(0), colour(colours.MEASURED)),
            named("least", thick(0), colour(colours.MEASURED)),
        ),
    )


def _commands() -> AnyPanel:
    return rows(
        About("Commands", "What was it told to do, and did it?", units.NONE, "no command was answered in this time"),
        table(f"""
            select answered_at as "Answered", coalesce(nullif(device_id, ''), 'the node') as "Device",
                   answer ->> 'command' as "Command", answer ->> 'value' as "Value",
                   (answer ->> 'done' = 'true')::int as "Done", answer ->> 'reason' as "Reason",
                   answer ->> 'command_id' as "Id"
            from command_answer
            where {_NODE} and $__timeFilter(answered_at)
            order by answered_at desc
            limit 100
        """),
        fields=(
            named("Answered", unit(units.TIME), width(160)),
            named(
                "Done",
                said({"1": ("done", colours.GOOD), "0": ("refused", colours.BAD)}),
                lamp(),
                width(80),
            ),
        ),
    )


def _events() -> AnyPanel:
    return rows(
        About(
            "Events",
            "Which series changed their type or unit, and which limits were reached?",
            units.NONE,
            "nothing to tell in this time",
        ),
        table(f"""
            select at as "At", kind as "Kind", coalesce(nullif(device_id, ''), 'the node') as "Device",
                   nullif(metric, '') as "Metric", detail::text as "Detail"
            from node_event where {_NODE} and $__timeFilter(at) order by at desc limit 100
        """),
        fields=(named("At", unit(units.TIME), width(160)),),
    )


def _unusual() -> AnyPanel:
    return incidents("Incidents", "What was unusual in what it read?", _NODE, "Node", "Group", "Model")


def _missing() -> AnyPanel:
    return gaps("Of which times may readings be missing, and why?", _NODE, "Node", "Group", "Filled")


def _models() -> AnyPanel:
    return models("Which models look at its devices, here and there?", _NODE, "Node", "Group", "Subject")
