"""Of updates: a roll-out that stopped by itself waits for somebody, with some of its nodes on the version before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import uids as boards
from grafana.alerts import uids
from grafana.alerts.rule import Above, Rule
from grafana.query import table

if TYPE_CHECKING:
    from collections.abc import Sequence


def rules() -> Sequence[Rule]:
    """All of them."""
    return (_stopped(),)


def _stopped() -> Rule:
    """A row for each of the last month; what is resumed or aborted ends its alert."""
    return Rule(
        uids.ROLLOUT_STOPPED,
        "Roll-out stopped",
        "warning",
        table("""
            select o.group_id as "group", o.rollout_id::text as rollout,
                   o.kind || ' ' || o.name || ' ' || o.version as version,
                   (o.state = 'stopped')::int::float8 as stopped
            from rollout o
            where o.started_at > now() - interval '30 days'
        """),
        Above(0),
        "0s",
        "Roll-out {{ .Labels.rollout }} of {{ .Labels.version }} in group {{ .Labels.group }} has stopped.",
        "More of its nodes failed than may, or none of a stage confirmed. Nobody more is asked; nodes that have the "
        "version keep it, and those that rolled back run what they ran before.",
        f"/d/{boards.FLEET}?var-group={{{{ urlquery .Labels.group }}}}",
    )
