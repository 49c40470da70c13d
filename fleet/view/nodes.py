"""The nodes that the database knows, together with those of the operator's home."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fleet.rollout.judge import FAILURES
from fleet.view.node import FailedUpdate, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fleet import registry
    from fleet.view.database import Database

_NODES: Final = """
select n.group_id as "group", n.node_id as name, n.online, n.last_seen_at as seen_at, n.last_birth_at as born_at,
       n.last_death_at as died_at, h.sampled_at as told_at, h.version, h.uptime_s, h.memory_mib,
       h.temperature_celsius as celsius, h.clock_synchronised, h.clock_offset_ms, h.disk_free_bytes, h.disk_bytes,
       h.spool_batches, h.spool_bytes, h.spool_limit_bytes, h.spool_set_aside as set_aside,
       h.spool_evicted + h.spool_dropped as lost, a.undelivered::bigint as undelivered,
       a.given_up::bigint as given_up, a.produced::bigint as produced, p.site
from node n
left join node_health h using (group_id, node_id)
left join node_accounting a using (group_id, node_id)
left join node_position p using (group_id, node_id)
where (%(group)s::text is null or n.group_id = %(group)s) and (%(node)s::text is null or n.node_id = %(node)s)
order by 1, 2
"""
# A node may tell of as many names as it likes.
_FAILED: Final = """
select group_id, node_id, what, wanted, state, reason, told_at
from (select u.*, u.kind || '/' || u.name as what,
             row_number() over (partition by group_id, node_id order by told_at desc) as place
      from node_update u
      where state = any(%(states)s) and (%(group)s::text is null or group_id = %(group)s)
        and (%(node)s::text is null or node_id = %(node)s)) told
where place <= 5
order by place
"""


def nodes(
    database: Database,
    enrolled: Iterable[registry.Node] = (),
    *,
    group: str | None = None,
    node: str | None = None,
) -> list[Node]:
    """All nodes, or those of a group or of a name; one that is enrolled and never came is one, too."""
    which = {"group": group, "node": node}
    failed = _failed_updates(database, which)
    known: dict[tuple[str, str], Node] = {}
    for row in database.rows(_NODES, which):
        at = row["group"], row["name"]
        known[at] = Node(**row, failed_updates=tuple(failed[at]))
    for each in enrolled:
        at = each.group, each.name
        is_asked_for = group in (None, each.group) and node in (None, each.name)
        if at in known or (is_asked_for and each.revoked_at is None):
            found = known.get(at, Node(*at))
            known[at] = replace(
                found,
                certificate_ends_at=each.certificate_ends_at,
                revoked_at=each.revoked_at,
                shown_again_at=each.shown_again_at,
            )
    return sorted(known.values(), key=lambda each: (each.group, each.name))


def _failed_updates(
    database: Database, which: Mapping[str, str | None]
) -> defaultdict[tuple[str, str], list[FailedUpdate]]:
    """What nodes did not take, or have put back, by group and name of the node."""
    found = defaultdict[tuple[str, str], list[FailedUpdate]](list)
    for row in database.rows(_FAILED, {**which, "states": [state.value for state in FAILURES]}):
        found[row.pop("group_id"), row.pop("node_id")].append(FailedUpdate(**row))
    return found


def now(database: Database) -> datetime:
    """The database's time: ages are told by one clock, which need not be this machine's."""
    at: datetime = database.rows("select now() as now")[0]["now"]
    return at
