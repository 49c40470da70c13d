"""Fleet: every node, where it is, how it fares, and what is missing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board
from grafana.boards.fleet_updates import rollouts, updates
from grafana.fields import lamp, limits, named, said, thresholds, unit, width, words
from grafana.incidents import incidents
from grafana.layout import Row
from grafana.maps import places
from grafana.nodes import (
    CLOCK_WORDS,
    DISK_FREE,
    ENDS,
    NODE_COLUMNS,
    ON_OFF,
    SPOOL_FULL,
    STATE,
    STATES,
    WARM,
    gaps,
    models,
)
from grafana.panels import About, lines, number, rows, states
from grafana.query import WIDE, series, table
from grafana.variables import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel
    from grafana.query import Sql

_CHOSEN: Final = "group_id = any(array[${group:sqlstring}]::text[])"
_STATE_WORDS: Final = (said(STATES), thresholds((1, colours.WARNING), (2, colours.GOOD), base=colours.BAD))


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.FLEET,
        "Fleet",
        "Are all nodes there, do they deliver what they read, and which of them needs somebody?",
        rows=(
            Row(4, _numbers()),
            Row(11, (_table(),)),
            Row(11, (_map(), _timeline()), widths=(9, 15)),
            Row(9, (_alarms(), _unusual()), "What is wrong", widths=(9, 15)),
            Row(9, (_missing(),)),
            Row(9, (_spools(), _lost()), "What waits, and what is lost"),
            Row(8, (_models(),), "What computes"),
            Row(8, (rollouts(_CHOSEN),), "Updates"),
            Row(9, (updates(_CHOSEN),)),
        ),
        variables=(Asked("group", "Group", "select distinct group_id from node order by 1", several=True),),
        refresh="10s",
    )


def _numbers() -> Sequence[AnyPanel]:
    def count(title: str, question: str, sql: str, *, bad_from: int = 1) -> AnyPanel:
        about = About(title, question, units.COUNT, "no nodes yet")
        return number(about, table(sql), limits=limits((bad_from, colours.BAD), base=colours.GOOD))

    return (
        number(
            About("Online", "How many nodes are connected and talk?", units.COUNT, "no nodes yet"),
            table(f"select count(*) filter (where {STATE} = 2) as online from node n where {_CHOSEN}"),
            limits=limits((1, colours.GOOD), base=colours.BAD),
        ),
        count(
            "Silent or offline",
            "How many nodes have said nothing for two minutes, or are dead by the broker's word?",
            f"select count(*) filter (where {STATE} < 2) as away from node n where {_CHOSEN}",
        ),
        count(
            "Undelivered batches",
            "How many batches were made and have not come, though their nodes should still have them?",
            f"select coalesce(sum(undelivered), 0)::bigint as batches from node_accounting where {_CHOSEN}",
        ),
        count(
            "Batches given up",
            "How many batches were made, are no longer kept by their node, and never came?",
            f"select coalesce(sum(given_up), 0)::bigint as batches from node_accounting where {_CHOSEN}",
        ),
        count(
            "Open incidents",
            "How many anomalies last at this moment?",
            f"select count(*) as incidents from anomaly where ended_at is null and {_CHOSEN}",
        ),
        count(
            "Events of a day",
            "How often did a series change or a limit get reached in the last 24 hours?",
            f"select count(*) as events from node_event where at > now() - interval '1 day' and {_CHOSEN}",
        ),
    )


def _map() -> AnyPanel:
    return places(
        About(
            "Where nodes stand",
            "Which sites have trouble? Positions are entered by whoever installs a node, into the table node_position.",
            units.NONE,
            "no node of this group has a row in node_position",
        ),
        table(f"""
            select n.group_id as "Group", n.node_id as "Node", p.site as "Site", {STATE} as "State",
                   n.last_seen_at as "Seen", p.latitude, p.longitude
            from node n join node_position p using (group_id, node_id)
            where n.{_CHOSEN}
            limit 1000
        """),
        state="State",
        name="Node",
        fields=(named("State", *_STATE_WORDS), NODE_COLUMNS[0]),
    )


def _table() -> AnyPanel:
    return rows(
        About("Nodes", "How does each node fare, worst first?", units.COUNT, "no node has ever connected"),
        table(f"""
            select n.node_id as "Node", n.group_id as "Group", {STATE} as "State", n.last_seen_at as "Seen",
                   h.version as "Version", m.models as "Models", h.spool_batches as "Spool", h.spool_share as "Full",
                   h.spool_evicted + h.spool_dropped as "Lost", a.undelivered::float8 as "Undelivered",
                   a.given_up::float8 as "Given up", h.clock_synchronised as "Clock",
                   h.temperature_celsius as "Processor", h.disk_free_bytes / nullif(h.disk_bytes, 0) as "Disk free",
                   p.site as "Site"
            from node n
            left join node_position p using (group_id, node_id)
            left join node_health h using (group_id, node_id)
            left join node_accounting a using (group_id, node_id)
            left join (
              select group_id, node_id, string_agg(distinct model || ' ' || version, ', ') as models
              from node_model where place = 'edge' group by 1, 2) m using (group_id, node_id)
            where n.{_CHOSEN}
            order by {STATE}, a.undelivered + a.given_up desc nulls last, n.node_id
            limit 500
        """),
        fields=(
            *NODE_COLUMNS,
            named("State", *_STATE_WORDS, lamp(), width(75)),
            named("Seen", unit(units.AGO), width(130)),
            named("Version", width(75)),
            named("Models", width(135)),
            named("Full", unit(units.SHARE), lamp(), thresholds(*SPOOL_FULL, base="transparent"), width(70)),
            named("Clock", *CLOCK_WORDS, lamp(), width(80)),
            named("Processor", unit(units.CELSIUS), lamp(), thresholds(*WARM, base="transparent"), width(85)),
            named("Disk free", unit(units.SHARE), lamp(), thresholds(*DISK_FREE, base=colours.BAD), width(85)),
            *(
                named(each, lamp(), thresholds((1, colours.BAD), base="transparent"), width(pixels))
                for each, pixels in (("Lost", 60), ("Undelivered", 100), ("Given up", 80))
            ),
        ),
    )


def _timeline() -> AnyPanel:
    return states(
        About("Connections", "When was each node connected?", units.NONE, "no node came or went"),
        series(f"""
            select time, metric, min(value) as value from (
              select ends.time, n.group_id || '/' || n.node_id as metric, (stood.status = 'online')::int as value
              from node n
              cross join {ENDS}
              cross join lateral (
                select status from node_status s
                where (s.group_id, s.node_id, s.device_id) = (n.group_id, n.node_id, '') and s.at <= ends.time
                order by s.at desc limit 1) stood
              where n.{_CHOSEN}
              union all
              select $__timeGroup(at, '$__interval'), group_id || '/' || node_id, last((status = 'online')::int, at)
              from node_status
              where device_id = '' and $__timeFilter(at) and {_CHOSEN}
              group by 1, 2) told
            group by 1, 2 order by 1
        """),
        meanings=words(ON_OFF),
        holds=True,
    )


def _spools() -> AnyPanel:
    return lines(
        About(
            "Spools",
            "Which ten nodes keep most that is not known to be durable, and do they get rid of it?",
            units.BYTES,
            "no node has told its health in this time",
        ),
        _most(f"""
          select r.bucket_at as time, s.group_id || '/' || s.node_id as metric, r.max as value
          from {_health("Health/Spool Bytes")}
        """),
        floor=0,
        least="1m",
    )


def _lost() -> AnyPanel:
    return lines(
        About(
            "Batches lost on the device",
            "Which ten nodes ran most out of room, and what did that cost? Each is declared as a gap, too.",
            units.COUNT,
            "no node has told its health in this time",
        ),
        _most(f"""
          select time, metric, greatest(value - lag(value) over (partition by metric order by time), 0) as value
          from (
            select r.bucket_at as time, s.group_id || '/' || s.node_id as metric, sum(r.last) as value
            from {_health("Health/Spool Evicted", "Health/Spool Dropped")}
            group by 1, 2) counted
        """),
        floor=0,
        bars=True,
        stacked=True,
        least="1m",
    )


def _health(*metrics: str) -> str:
    listed = ", ".join(f"'{metric}'" for metric in metrics)
    return f"""series s
            cross join lateral reading_bucketed(array[s.series_id], $__timeFrom(), $__timeTo(), {WIDE}) r
            where s.kind = 'numeric' and s.device_id = '' and s.metric in ({listed}) and s.{_CHOSEN}"""


def _most(told: str) -> Sql:
    """Of the ten nodes with the greatest values: more lines than that nobody can tell apart."""
    return series(f"""
        with told as ({told})
        select time, metric, value from told
        where metric in (select metric from told group by metric order by max(value) desc nulls last, 1 limit 10)
        order by time
    """)


def _models() -> AnyPanel:
    return models("Which version of which model looks at which device, how is it, and when did it tell last?", _CHOSEN)


def _unusual() -> AnyPanel:
    return incidents("Incidents", "What is unusual now, or was in this time?", f"a.{_CHOSEN}", "Model", "Detector")


def _missing() -> AnyPanel:
    return gaps("Of which devices and times may readings be missing, and will they still come?", _CHOSEN)


def _alarms() -> AnyPanel:
    return rows(
        About(
            "Alarms",
            "Which alarms are on at this moment, by the devices' own word?",
            units.NONE,
            "no device says that an alarm is on",
        ),
        table(f"""
            select s.node_id as "Node", s.group_id as "Group", s.device_id as "Device", s.metric as "Alarm",
                   last.sampled_at as "Read"
            from series s
            cross join lateral (
              select r.value, r.sampled_at from reading r
              where r.series_id = s.series_id and r.sampled_at > now() - interval '1 hour'
              order by r.sampled_at desc limit 1) last
            where s.{_CHOSEN} and s.kind = 'numeric' and s.datatype = 11 and s.metric ~ '(alarm|overload|anomaly)'
              and last.value = 1
            order by last.sampled_at desc limit 200
        """),
        fields=(*NODE_COLUMNS, named("Read", unit(units.AGO), width(130))),
    )
