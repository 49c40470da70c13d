"""Tables for terminals: columns that say how they show a row, and nothing that a stranger could write into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from fleet.view.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

RowT = TypeVar("RowT")

GOOD: Final = "green"
WARNING: Final = "yellow"
BAD: Final = "bold red"
DIM: Final = "dim"
# From so many columns on there is room between them.
_ROOMY: Final = 100


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """A heading, what stands below it for a row at a time, and its style.

    It takes what its cells take, `most` at most; where all is too wide together, columns with `least` give way to that,
    the widest first. A column that `needs` a wider screen is not there.
    """

    heading: str
    shown: Callable[[RowT, datetime], str]
    style: Callable[[RowT, datetime], str] = lambda _row, _now: ""
    justify: Literal["left", "right"] = "left"
    most: int = 60
    least: int | None = None
    needs: int = 0


def styled(text: str, style: str = "") -> Text:
    """A text, made plain."""
    return Text(plain(text), style=style, no_wrap=True, overflow="ellipsis")


def table(columns: Sequence[Column[RowT]], rows: Sequence[RowT], now: datetime, width: int) -> Table:
    """The rows as a table that fits on a screen of this width."""
    shown = [column for column in columns if column.needs <= width]
    cells = [[styled(column.shown(row, now), column.style(row, now)) for column in shown] for row in rows]
    between = 2 if width >= _ROOMY else 1
    made = Table(box=None, pad_edge=False, padding=(0, between, 0, 0), header_style="bold")
    for column, taken in zip(shown, _widths(shown, cells, width - between * (len(shown) - 1)), strict=True):
        made.add_column(column.heading, justify=column.justify, no_wrap=True, overflow="ellipsis", width=taken)
    for row in cells:
        made.add_row(*row)
    return made


def _widths(columns: Sequence[Column[RowT]], cells: Sequence[Sequence[Text]], room: int) -> list[int]:
    widths = [
        max(cell_len(column.heading), *(min(row[place].cell_len, column.most) for row in cells), 0)
        for place, column in enumerate(columns)
    ]
    yielding = {place: column.least for place, column in enumerate(columns) if column.least is not None}
    while sum(widths) > room and (wide := [place for place, least in yielding.items() if widths[place] > least]):
        widths[max(wide, key=lambda place: widths[place])] -= 1
    return widths
