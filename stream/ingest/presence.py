"""Who is there: what a batch says of nodes and devices, into `node` and `node_status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc
from psycopg2.extras import execute_values

from stream.ingest.rows import Presence, Record

if TYPE_CHECKING:
    from psycopg2.extensions import cursor

    from stream.ingest.batch import Batch

_SEEN: Final = """
insert into node (group_id, node_id, first_seen_at, last_seen_at) values %s
on conflict (group_id, node_id) do update set first_seen_at = least(node.first_seen_at, excluded.first_seen_at),
  last_seen_at = greatest(node.last_seen_at, excluded.last_seen_at)
"""
# A dead letter that is sent again, and a log that is read again, tell of old births and deaths as if they were new. A
# minute is for the clocks of two bridges.
_BORN: Final = """
update node set online = true, last_birth_at = %(at)s, bd_seq = %(bd_seq)s
where (group_id, node_id) = (%(group_id)s, %(node_id)s)
  and (%(at)s >= greatest(last_birth_at, last_death_at) - interval '1 minute') is not false
"""
# The will of a connection that was replaced comes after the new one's birth: its bdSeq tells it apart.
_DEAD: Final = """
update node set online = false, last_death_at = %(at)s
where (group_id, node_id) = (%(group_id)s, %(node_id)s) and (bd_seq = %(bd_seq)s) is not false
  and (%(at)s >= last_birth_at - interval '1 minute') is not false
"""
_STATUS: Final = """
insert into node_status (group_id, node_id, device_id, at, status, bd_seq)
values (%(group_id)s, %(node_id)s, %(device_id)s, %(at)s, %(status)s, %(bd_seq)s)
on conflict (group_id, node_id, device_id, at, status) do nothing
"""


# A node's death takes its devices with it. Births of devices come after their node's, so the row of its last birth
# says how far back to look.
_DEVICES_GONE: Final = """
insert into node_status (group_id, node_id, device_id, at, status, bd_seq)
select group_id, node_id, device_id, %(at)s, 'offline', %(bd_seq)s
from (
  select distinct on (s.device_id) s.group_id, s.node_id, s.device_id, s.status
  from node_status s join node n using (group_id, node_id)
  where (n.group_id, n.node_id) = (%(group_id)s, %(node_id)s) and s.device_id <> ''
    and s.at >= coalesce(n.last_birth_at, '-infinity')
  order by s.device_id, s.at desc, s.status
) as last_heard
where status = 'online'
on conflict (group_id, node_id, device_id, at, status) do nothing
"""


def store_presence(cursor: cursor, batch: Batch) -> None:
    """Note who was heard of, then births and deaths in the order they came."""
    seen = _seen(batch)
    if seen:
        execute_values(cursor, _SEEN, seen)
    events = batch.of(Presence).sort_by(
        [("kafka_topic", "ascending"), ("kafka_partition", "ascending"), ("kafka_offset", "ascending")]
    )
    for event in events.to_pylist():
        _store_event(cursor, event)


def utc(ms: int | None) -> datetime | None:
    """Milliseconds of UTC as an aware datetime."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _seen(batch: Batch) -> list[tuple[str, str, datetime | None, datetime | None]]:
    records = batch.of(Record)
    known = records.filter(pc.is_valid(records["group_id"])).group_by(["group_id", "node_id"])
    rows = known.aggregate([("received_at_ms", "min"), ("received_at_ms", "max")]).to_pylist()
    return sorted(
        (row["group_id"], row["node_id"], utc(row["received_at_ms_min"]), utc(row["received_at_ms_max"]))
        for row in rows
    )


def _store_event(cursor: cursor, event: dict[str, Any]) -> None:
    row = {**event, "at": utc(event["received_at_ms"]), "status": "online" if event["online"] else "offline"}
    if event["device_id"] == "":
        cursor.execute(_BORN if event["online"] else _DEAD, row)
        if not event["online"]:
            if not cursor.rowcount:
                return
            cursor.execute(_DEVICES_GONE, row)
    cursor.execute(_STATUS, row)
