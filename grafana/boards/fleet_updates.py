"""Fleet, continued: versions that come to nodes, and how that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, units
from grafana.fields import lamp, named, said, thresholds, unit, width
from grafana.nodes import NODE_COLUMNS
from grafana.panels import About, rows
from grafana.query import table

if TYPE_CHECKING:
    from grafana.layout import AnyPanel

# A running one that nobody looks after does not go on; it is looked after every ten seconds.
_DRIVEN: Final = "o.driven_at > now() - interval '1 minute'"
_ROLLOUT: Final = {
    "running": ("running", colours.MEASURED),
    "nobody drives it": ("nobody drives it", colours.WARNING),
    "paused": ("paused", colours.NOTE),
    "stopped": ("stopped", colours.BAD),
    "aborted": ("aborted", colours.OFF),
    "done": ("done", colours.GOOD),
}
_NODE: Final = {
    "confirmed": ("confirmed", colours.GOOD),
    "away": ("away", colours.OFF),
    "waiting": ("waiting", colours.OFF),
    "missed": ("missed", colours.OFF),
    "failed": ("failed", colours.BAD),
    "refused": ("refused", colours.BAD),
    "rolled_back": ("rolled back", colours.BAD),
    "at work": ("at work", colours.MEASURED),
    "fetching": ("fetching", colours.MEASURED),
    "trying": ("trying", colours.MEASURED),
}


def rollouts(chosen: str) -> AnyPanel:
    """Of the groups that meet a condition, stage by stage."""
    return rows(
        About(
            "Roll-outs",
            "How far are updates, stage by stage, and which of them stopped?",
            units.COUNT,
            "nothing was ever rolled out",
        ),
        table(f"""
            select o.rollout_id as "ID", o.kind || ' ' || o.name || ' ' || o.version as "Update", o.group_id as "Group",
                   case when o.state = 'running' and not coalesce({_DRIVEN}, false) then 'nobody drives it'
                        else o.state end as "State",
                   o.stage_name || case when o.is_current and o.state not in ('done', 'aborted') then ' *' else '' end
                     as "Stage (* now)",
                   o.nodes as "Nodes", o.confirmed as "Confirmed", o.at_work as "At work", o.away as "Away",
                   o.failed as "Failed", o.started_at as "Begun", o.reason as "Why"
            from rollout_progress o
            where o.{chosen}
            order by o.rollout_id desc, o.stage
            limit 60
        """),
        fields=(
            NODE_COLUMNS[1],
            named("ID", width(50)),
            named("Update", width(190)),
            named("State", said(_ROLLOUT), lamp(), width(110)),
            named("Begun", unit(units.AGO), width(120)),
            named("Failed", lamp(), thresholds((1, colours.BAD), base="transparent"), width(70)),
            *(named(each, width(80)) for each in ("Nodes", "Confirmed", "At work", "Away")),
        ),
    )


def updates(chosen: str) -> AnyPanel:
    """Of the nodes that meet a condition: what was asked of each last, and what it says."""
    return rows(
        About(
            "Versions on nodes",
            "What was each node asked to run last, what does it say that runs, and how did it go? Failures first.",
            units.NONE,
            "nothing was ever rolled out",
        ),
        table(f"""
            with asked as (
              select distinct on (o.group_id, n.node_id, o.kind, o.name)
                     o.group_id, n.node_id, o.kind, o.name, o.version, o.counter, n.reason,
                     case when n.state <> 'asked' then n.state when n.reached_at is null then 'away' else 'at work' end
                       as state
              from rollout_node n join rollout o using (rollout_id)
              where o.{chosen}
              order by o.group_id, n.node_id, o.kind, o.name, o.rollout_id desc),
            told as (select * from node_update where {chosen})
            select node_id as "Node", group_id as "Group", kind || ' ' || name as "Update", a.version as "Wanted",
                   t.running as "Runs",
                   case when a.state = 'at work' and t.counter = a.counter then t.state
                        else coalesce(a.state, t.state) end as "State",
                   t.told_at as "Told", coalesce(a.reason, t.reason) as "Why"
            from asked a full join told t using (group_id, node_id, kind, name)
            order by coalesce(a.state, t.state) in ('failed', 'refused', 'rolled_back') desc,
                     coalesce(a.state, t.state) = 'confirmed', node_id, kind, name
            limit 500
        """),
        fields=(
            *NODE_COLUMNS,
            named("Update", width(170)),
            named("State", said(_NODE), lamp(), width(100)),
            named("Told", unit(units.AGO), width(120)),
        ),
    )
