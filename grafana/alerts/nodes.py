"""Of nodes: one that is silent, one that does not get rid of what it reads, and what never came of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana.alerts import uids
from grafana.alerts.rule import COUNT, DURATION, NODE, NODE_BOARD, SHARE, Above, Rule
from grafana.query import table

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a spool may take unless told otherwise: of agents that do not tell.
_SPOOL_LIMIT: Final = 2**28


def rules() -> Sequence[Rule]:
    """All of them."""
    return (_silent(), _filling(), _disk(), _losing(), _open(), _lost())


def _silent() -> Rule:
    """By the broker's word, or by that of the others: were all silent, it would be the way here that is broken."""
    return Rule(
        uids.NODE_SILENT,
        "Node silent",
        "critical",
        table("""
            select n.group_id as "group", n.node_id as node,
                   greatest(extract(epoch from heard.at - n.last_seen_at), 0)::float8 as silent_s
            from node n
            cross join (select max(last_seen_at) as newest from node) fleet
            cross join lateral (select case when n.online then fleet.newest else now() end as at) heard
        """),
        Above(120),
        "2m",
        f"{NODE} has been silent for {DURATION}.",
        "Nothing has come of it for more than two minutes, while others are heard, or the broker says that it is gone. "
        "What it reads it keeps, as long as it has power and room.",
        NODE_BOARD,
        calm="5m",
    )


def _filling() -> Rule:
    """By the least of five minutes: what waits for the next acknowledgement does not count."""
    return Rule(
        uids.SPOOL_FILLING,
        "Spool filling",
        "warning",
        table(f"""
            select s.group_id as "group", s.node_id as node,
                   max(kept.bytes / coalesce(nullif(h.spool_limit_bytes, 0), {_SPOOL_LIMIT}))::float8 as full
            from series s
            cross join lateral (
              select min(r.value) as bytes from reading r
              where r.series_id = s.series_id and r.quality = 192 and r.sampled_at > now() - interval '5 minutes') kept
            left join node_health h using (group_id, node_id)
            where s.device_id = '' and s.kind = 'numeric' and s.metric = 'Health/Spool Bytes' and kept.bytes is not null
            group by 1, 2
        """),
        # A full one is replayed in 17 minutes, unless told otherwise.
        Above(1 / 8, until=1 / 32),
        "20m",
        f"The spool of {NODE} does not empty: {SHARE} of it is taken.",
        "The node is connected and has kept much that is not known to be durable for twenty minutes. When its spool is "
        "full it throws away the oldest.",
        NODE_BOARD,
    )


def _disk() -> Rule:
    """Of the last twentieth, or of 64 MiB, a spool takes nothing."""
    return Rule(
        uids.DEVICE_DISK,
        "Device disk",
        "warning",
        table("""
            select group_id as "group", node_id as node, (1 - disk_free_bytes / disk_bytes)::float8 as used
            from node_health where disk_bytes > 0 and disk_free_bytes is not null
        """),
        Above(0.95, until=0.9),
        "10m",
        f"The disk of {NODE} is full: {SHARE} of it is used.",
        "Little is left where its spool lies. When it has to keep what it reads there is no room, and the oldest is "
        "thrown away instead.",
        NODE_BOARD,
    )


def _losing() -> Rule:
    """Counters begin at 0 with each start of the agent: after one, all that they say is new."""
    return Rule(
        uids.SPOOL_LOSING,
        "Spool losing",
        "critical",
        table("""
            select s.group_id as "group", s.node_id as node,
                   sum(newest.value - case when newest.value < oldest.value then 0 else oldest.value end)::float8
                     as lost
            from series s
            cross join lateral (
              select r.value from reading r
              where r.series_id = s.series_id and r.quality = 192 and r.sampled_at > now() - interval '1 hour'
              order by r.sampled_at desc limit 1) newest
            cross join lateral (
              select r.value from reading r
              where r.series_id = s.series_id and r.quality = 192 and r.sampled_at > now() - interval '1 hour'
              order by r.sampled_at limit 1) oldest
            where s.device_id = '' and s.kind = 'numeric'
              and s.metric in ('Health/Spool Evicted', 'Health/Spool Dropped')
            group by 1, 2
        """),
        Above(0),
        "0s",
        f"{NODE} has lost {COUNT} batches within an hour.",
        "Its spool was full, or its disk took nothing more. The times are declared as gaps, and will not be filled.",
        NODE_BOARD,
    )


def _open() -> Rule:
    """Of a node that is away nothing can come: that it is away is told of by another rule."""
    return Rule(
        uids.GAP_OPEN,
        "Gap open",
        "warning",
        table("""
            select n.group_id as "group", n.node_id as node,
                   coalesce(sum(g.batches) filter (where n.online), 0)::float8 as batches
            from node n
            left join open_gap g on (g.group_id, g.node_id) = (n.group_id, n.node_id) and g.state = 'open'
              and g.declared_at < now() - interval '10 minutes'
            group by 1, 2
        """),
        Above(0),
        "10m",
        f"{COUNT} batches of {NODE} are missing, though it still keeps them.",
        "They were made, should come, and have not for twenty minutes, while the node goes on talking: a fault on the "
        "way.",
        NODE_BOARD,
    )


def _lost() -> Rule:
    return Rule(
        uids.BATCHES_LOST,
        "Batches lost",
        "critical",
        table("""
            select n.group_id as "group", n.node_id as node, coalesce(sum(g.batches), 0)::float8 as batches
            from node n
            left join open_gap g on (g.group_id, g.node_id) = (n.group_id, n.node_id) and g.state = 'given_up'
              and g.declared_at > now() - interval '7 days'
            group by 1, 2
        """),
        Above(0),
        "0s",
        f"{COUNT} batches of {NODE} are lost: it no longer keeps them, and they never came.",
        "Either they were evicted, and a declared gap beside them says so, or they were acknowledged and lost behind "
        "the broker, which must not happen. Told for a week, or until the gap's row is deleted.",
        NODE_BOARD,
    )
