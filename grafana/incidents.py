"""What was unusual, wherever it is shown: a table, and marks on charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, units
from grafana.board import Marks
from grafana.fields import named, unit, width
from grafana.nodes import NODE_COLUMNS
from grafana.panels import About, rows
from grafana.query import table

if TYPE_CHECKING:
    from grafana.layout import AnyPanel

# Of the anomalies `a`, those that lasted at some moment that is shown.
SHOWN: Final = "a.started_at <= $__timeTo() and (a.ended_at is null or a.ended_at >= $__timeFrom())"
_METRIC: Final = "coalesce(nullif(a.metric, ''), 'the whole device')"
_COLUMNS: Final = {
    "Since": "a.started_at",
    "Until": "a.ended_at",
    "Node": "a.node_id",
    "Group": "a.group_id",
    "Device": "a.device_id",
    "Metric": _METRIC,
    "Detector": "a.detector",
    "Place": "a.place",
    "Times limit": "a.peak_score / nullif(a.threshold, 0)",
    "Model": "concat_ws(' ', a.model, a.version)",
}


def incidents(title: str, question: str, condition: str, *without: str) -> AnyPanel:
    """Those of the anomalies `a` that meet a condition, lasting ones first, without some of the columns."""
    chosen = ", ".join(f'{value} as "{name}"' for name, value in _COLUMNS.items() if name not in without)
    return rows(
        About(title, question, units.NONE, "nothing unusual in this time"),
        table(f"""
            select {chosen}
            from anomaly a
            where {condition} and {SHOWN}
            order by a.ended_at is not null, a.started_at desc
            limit 200
        """),
        fields=(
            *(named(each, unit(units.TIME), width(160)) for each in ("Since", "Until")),
            *NODE_COLUMNS,
            named("Place", width(70)),
        ),
    )


def marks(condition: str) -> Marks:
    """The same on every chart of a dashboard."""
    return Marks(
        "Anomalies",
        table(f"""
            select a.started_at as time, a.ended_at as timeend, a.detector || ' in ' || {_METRIC} as text,
                   a.place as tags
            from anomaly a
            where {condition} and {SHOWN}
            limit 200
        """),
        colours.BAD,
    )
