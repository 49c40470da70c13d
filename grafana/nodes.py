"""What dashboards show of nodes alike: their state, the way to one of them, and what is missing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import to
from grafana.fields import link, named, said, thresholds, unit, width
from grafana.panels import About, rows
from grafana.query import table

if TYPE_CHECKING:
    from grafana.layout import AnyPanel

# Of the node `n`: offline, silent or online. A node tells its health every ten seconds, whatever else it reads.
STATE: Final = "case when not n.online then 0 when n.last_seen_at < now() - interval '2 minutes' then 1 else 2 end"
STATES: Final = {"2": ("online", colours.GOOD), "1": ("silent", colours.WARNING), "0": ("offline", colours.BAD)}
ON_OFF: Final = {"1": ("online", colours.GOOD), "0": ("offline", colours.BAD)}
CLOCK: Final = {"1": ("in sync", colours.GOOD), "0": ("no sync", colours.WARNING)}
CLOCK_WORDS: Final = (said(CLOCK), thresholds((1, colours.GOOD), base=colours.WARNING))
# A Raspberry Pi slows down at 80 °C; most processors take more.
WARM: Final = ((70, colours.WARNING), (80, colours.BAD))
# Of the interval: a poll that takes all of it makes the next one late.
LINE_TAKEN: Final = ((0.8, colours.WARNING), (0.95, colours.BAD))
# From an eighth on an alert tells it, if it lasts.
SPOOL_FULL: Final = ((0.125, colours.WARNING), (0.9, colours.BAD))
DISK_FREE: Final = ((0.05, colours.WARNING), (0.1, "transparent"))
NODE_COLUMNS: Final = (
    named(
        "Node",
        link("Open the node", to(uids.NODE, "var-group=${__data.fields.Group}", "var-node=${__data.fields.Node}")),
        width(110),
    ),
    named("Group", width(80)),
)
# Both ends of the time that is shown, what is ahead of now left out.
ENDS: Final = "(values ($__timeFrom()::timestamptz), (least($__timeTo(), now()))) as ends (time)"
_GAP: Final = {
    "From": "from_at",
    "To": "to_at",
    "Node": "node_id",
    "Group": "group_id",
    "Device": "coalesce(nullif(device_id, ''), 'the node')",
    "Kind": "kind",
    "State": "coalesce(state, 'declared')",
    "Reason": "reason",
    "Batches": "batches",
    "Filled": "closed_at",
}

_MODEL: Final = {
    "Model": "model",
    "Version": "version",
    "Place": "place",
    "State": "state",
    "Node": "node_id",
    "Group": "group_id",
    "Device": "device_id",
    "Subject": "nullif(subject, '')",
    "Told": "told_at",
}


def gaps(question: str, condition: str, *without: str) -> AnyPanel:
    """Those that meet a condition, open ones first, without some of the columns."""
    chosen = ", ".join(f'{value} as "{name}"' for name, value in _GAP.items() if name not in without)
    return rows(
        About("Gaps", question, units.COUNT, "nothing is missing in this time"),
        table(f"""
            select {chosen}
            from gap
            where {condition} and to_at >= $__timeFrom() and from_at <= $__timeTo()
            order by closed_at is not null, declared_at desc
            limit 200
        """),
        fields=(*NODE_COLUMNS, *(named(each, unit(units.TIME), width(160)) for each in ("From", "To", "Filled"))),
    )


def models(question: str, condition: str, *without: str) -> AnyPanel:
    """Those that look at devices of nodes that meet a condition, without some of the columns."""
    chosen = ", ".join(f'{value} as "{name}"' for name, value in _MODEL.items() if name not in without)
    return rows(
        About("Models", question, units.NONE, "no model has told anything yet"),
        table(f"""
            select {chosen}
            from node_model where {condition}
            order by model, place, group_id, node_id, device_id, subject
            limit 500
        """),
        fields=(*NODE_COLUMNS, named("Told", unit(units.AGO), width(130)), named("Place", width(70))),
    )
