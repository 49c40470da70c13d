"""Where panels stand: rows of them from left to right, on a grid of 24 columns.

At 1366 pixels a column is some 54 pixels wide and a row of the grid 38 high; on a phone Grafana puts all panels below
each other, each as wide as the screen and as high as here. The least sizes are what can still be read on the former.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.models.dashboard import GridPos, RowPanel

from grafana.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.models.dashboard import Panel

    AnyPanel = Builder[Panel]


COLUMNS: Final = 24
# By the kind of panel: least width and height. A stat holds a number; a table and a chart need room for names.
LEAST: Final = {"stat": (4, 4), "text": (4, 3)}
LEAST_OF_OTHERS: Final = (8, 6)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels of one height beside each other, as wide as each other where no widths are told.

    A title begins a new part of the dashboard.
    """

    height: int
    panels: Sequence[AnyPanel]
    title: str = ""
    widths: Sequence[int] = ()


def placed(rows: Sequence[Row]) -> Iterator[tuple[Panel | RowPanel, GridPos]]:
    """Titles and panels with their places, from the top; raises LayoutError where they do not fit."""
    top = 0
    for row in rows:
        if row.title:
            yield RowPanel(title=row.title), GridPos(1, COLUMNS, 0, top)
            top += 1
        left = 0
        widths = row.widths or [COLUMNS // len(row.panels)] * len(row.panels)
        for builder, width in zip(row.panels, widths, strict=True):
            panel = builder.build()
            _check(panel, width, row.height)
            yield panel, GridPos(row.height, width, left, top)
            left += width
        if left > COLUMNS:
            raise LayoutError(f"a row of panels is {left} columns wide: there are {COLUMNS}")
        top += row.height


def _check(panel: Panel, width: int, height: int) -> None:
    least_width, least_height = LEAST.get(panel.type_val, LEAST_OF_OTHERS)
    if width < least_width or height < least_height:
        raise LayoutError(
            f"{panel.title}: {width} by {height} is too small to read; a {panel.type_val} takes "
            f"{least_width} by {least_height} at least"
        )
