"""What an operator should know of a node, into `node_event`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg2.extras import execute_values

from stream.ingest.presence import utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from psycopg2.extensions import cursor

_AT: Final = """
insert into node_event (group_id, node_id, device_id, metric, kind, detail, at) values %s
on conflict (group_id, node_id, device_id, metric, kind, at) do nothing returning kind
"""
# A limit that stays reached is told once a day.
_NOW: Final = """
insert into node_event (group_id, node_id, device_id, metric, kind, detail, at)
select e.group_id, e.node_id, e.device_id, e.metric, e.kind, e.detail::jsonb, now()
from (values %s) as e (group_id, node_id, device_id, metric, kind, detail)
where not exists (
  select from node_event n
  where (n.group_id, n.node_id, n.device_id, n.metric, n.kind) = (e.group_id, e.node_id, e.device_id, e.metric, e.kind)
    and n.at > now() - interval '1 day')
on conflict (group_id, node_id, device_id, metric, kind, at) do nothing returning kind
"""


class NodeEvent(NamedTuple):
    """What happened; the device is empty for the node itself, `at_ms` (UTC) None for a state that is found now."""

    group_id: str
    node_id: str
    device_id: str
    metric: str
    kind: str
    detail: Mapping[str, Any]
    at_ms: int | None = None


def store_events(cursor: cursor, events: Iterable[NodeEvent]) -> int:
    """Note events that are not noted yet; how many were new."""
    dated, now = [], []
    for event in events:
        row = (*event[:5], json.dumps(event.detail))
        if event.at_ms is None:
            now.append(row)
        else:
            dated.append((*row, utc(event.at_ms)))
    new = 0
    for statement, rows in ((_AT, dated), (_NOW, now)):
        if rows:
            new += len(execute_values(cursor, statement, rows, fetch=True))
    return new
