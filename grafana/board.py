"""A dashboard: what it is called, what can be chosen, and its rows of panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardCursorSync, DashboardLink, DashboardLinkType

from grafana.layout import placed
from grafana.query import source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.models.dashboard import GridPos, Panel, RowPanel

    from grafana.layout import Row
    from grafana.query import Sql
    from grafana.variables import Asked, Given

TAG: Final = "headwater"
REFRESH: Final = ("10s", "30s", "1m", "5m", "1h")


@dataclass(frozen=True, slots=True)
class Marks:
    """Annotations: rows with `time`, `timeend` where it lasted, `text` and `tags`."""

    name: str
    query: Sql
    colour: str


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; its `uid` is what links point at, and never changes."""

    uid: str
    title: str
    question: str
    rows: Sequence[Row]
    variables: Sequence[Asked | Given] = ()
    marks: Sequence[Marks] = ()
    from_: str = "now-6h"
    to: str = "now"
    refresh: str = "30s"

    def build(self) -> Dashboard:
        """As Grafana has it; nobody can change it there."""
        made = (
            build.Dashboard(self.title)
            .uid(self.uid)
            .description(self.question)
            .tags([TAG])
            .readonly()
            .time(self.from_, self.to)
            .timezone("browser")
            .refresh(self.refresh)
            .timepicker(build.TimePicker().refresh_intervals(list(REFRESH)))
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(_Links())
        )
        for variable in self.variables:
            made.with_variable(variable.build())
        for marks in self.marks:
            made.annotation(
                build.AnnotationQuery()
                .name(marks.name)
                .datasource(source())
                .enable(enable=True)
                .hide(hide=False)
                .icon_color(marks.colour)
                .target(marks.query)
            )
        dashboard = made.build()
        dashboard.panels = [
            _at(panel, number, place) for number, (panel, place) in enumerate(placed(self.rows), start=1)
        ]
        return dashboard


def to(uid: str, *chosen: str) -> str:
    """The address of another dashboard: the time that is shown here, and variables such as `var-node=edge-1`."""
    return "&".join([f"/d/{uid}?${{__url_time_range}}", *chosen])


def _at(panel: Panel | RowPanel, number: int, place: GridPos) -> Panel | RowPanel:
    panel.id_val, panel.grid_pos = number, place
    return panel


class _LinksModel(DashboardLink):
    """Shown above the panels; the SDK can only put them into a menu."""

    def to_json(self) -> dict[str, object]:
        return {key: value for key, value in super().to_json().items() if key != "placement"}


class _Links(Builder[DashboardLink]):
    """The other dashboards."""

    def build(self) -> DashboardLink:
        return _LinksModel(
            title="Headwater",
            type_val=DashboardLinkType.DASHBOARDS,
            tags=[TAG],
            as_dropdown=True,
            include_vars=True,
            keep_time=True,
        )
