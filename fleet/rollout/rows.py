"""A roll-out's rows, and the longer ones of the statements that read and write them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from fleet.rollout.judge import Node, Rollout, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

OF_TABLE: Final = {"group": "group_id"}
COLUMNS: Final = ", ".join(OF_TABLE.get(field.name, field.name) for field in fields(Rollout))
GIVEN: Final = (
    *("group", "kind", "name", "version", "counter", "sha256", "size_bytes", "unpacked_bytes", "url"),
    *("max_failed", "soak", "within", "started_by", "started_at", "expires_at"),
)
# As on the dashboards: a node tells its health every ten seconds, whatever else it does.
SILENT: Final = "interval '2 minutes'"
NODES: Final = f"""
select n.node_id, n.stage, n.state, n.asked_at, n.reached_at, n.settled_at, n.reason,
       coalesce(w.online and w.last_seen_at > now() - {SILENT}, false),
       case when w.online then w.last_seen_at else w.last_death_at end,
       u.node_id is not null, u.counter, u.state, u.running, u.reason
from rollout o join rollout_node n using (rollout_id)
left join node w on (w.group_id, w.node_id) = (o.group_id, n.node_id)
left join node_update u
  on u.group_id = %(group)s and u.kind = %(kind)s and u.name = %(name)s and u.node_id = n.node_id
where o.rollout_id = %(rollout)s
order by n.stage, n.node_id
"""  # noqa: S608 - a constant
# Whoever looks on sees that somebody drives it; the table is not written at every look.
CONTINUE: Final = """
update rollout set stage = %(stage)s, state = %(state)s, reason = %(reason)s, driven_at = now(),
                   changed_at = case when %(changed)s then now() else changed_at end
where rollout_id = %(rollout)s and state = %(before)s
  and (%(changed)s or driven_at is null or driven_at < now() - interval '10 s')
"""
NOTE: Final = """
update rollout_node n
set state = v.state, asked_at = v.asked_at::timestamptz, reached_at = v.reached_at::timestamptz,
    settled_at = v.settled_at::timestamptz, reason = v.reason
from (values %s) as v (rollout_id, node_id, state, asked_at, reached_at, settled_at, reason)
where n.rollout_id = v.rollout_id and n.node_id = v.node_id
"""


def rollout_of(row: Sequence[Any]) -> Rollout:
    """A roll-out by its `COLUMNS`."""
    given = dict(zip((field.name for field in fields(Rollout)), row, strict=True))
    return Rollout(**given | {"stages": tuple(given["stages"])})


def node_of(row: Sequence[Any]) -> Node:
    """A node by what `NODES` gives."""
    known, (online, gone_at, has_told, *told) = row[:7], row[7:]
    node, stage, state, asked_at, reached_at, settled_at, reason = known
    news = Told(*told) if has_told else None
    return Node(node, stage, state, asked_at, reached_at, settled_at, reason, online, gone_at, news)


def row_of(rollout_id: int, node: Node) -> tuple[object, ...]:
    """What `NOTE` takes of a node."""
    return (rollout_id, node.node, node.state, node.asked_at, node.reached_at, node.settled_at, node.reason)
