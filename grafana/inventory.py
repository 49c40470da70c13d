"""What a dashboard asks of the database, as it stands in its JSON: for tests and the benchmark."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from grafana.boards import boards
from grafana.files import rendered
from grafana.interval import interval_s, read_s
from grafana.layout import COLUMNS
from grafana.macros import Shown, chosen, expand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from grafana.board import Board

    Document = Mapping[str, Any]
    Fetch = Callable[[str], Sequence[Sequence[object]]]

# Of a dashboard on a screen 1366 pixels wide, without the menu.
_SCREEN: Final = 1310


@dataclass(frozen=True, slots=True)
class Question:
    """A query, whose it is, how many points it may give, and the least `$__interval`."""

    uid: str
    panel: str
    ref: str
    shape: str
    sql: str
    points: int = _SCREEN
    least_s: float = 1.0

    def __str__(self) -> str:
        return f"{self.uid}: {self.panel} {self.ref}"

    def asked(self, from_at: datetime, to_at: datetime, values: Mapping[str, str | Sequence[str]]) -> str:
        """The statement for a time range; raises MacroError."""
        width_s = interval_s((to_at - from_at).total_seconds(), self.points, self.least_s)
        return expand(self.sql, Shown(from_at, to_at, width_s, values))


def document(board: Board) -> Document:
    """A dashboard as Grafana reads it."""
    found: Document = json.loads(rendered(board))
    return found


def panels(board: Board) -> list[Document]:
    """Its panels, without the titles of rows."""
    return [panel for panel in document(board)["panels"] if panel["type"] != "row"]


def questions(board: Board) -> Iterator[Question]:
    """Every query of its panels and annotations."""
    for panel in panels(board):
        points = _SCREEN * panel["gridPos"]["w"] // COLUMNS
        least_s = read_s(panel["interval"]) if "interval" in panel else 1.0
        for target in panel.get("targets", ()):
            text, shape, ref = target["rawSql"], target["format"], target["refId"]
            yield Question(board.uid, panel["title"], ref, shape, text, points, least_s)
    for marks in document(board)["annotations"].get("list", ()):
        yield Question(board.uid, marks["name"], "annotation", "table", marks["target"]["rawSql"])


def variables(board: Board) -> Iterator[Question]:
    """Every query of its variables, for which all its panels wait."""
    for variable in _variables(board):
        if variable["type"] == "query":
            yield Question(board.uid, variable["label"], "variable", "table", variable["query"])


def choices(board: Board, shown_from: datetime, shown_to: datetime, fetch: Fetch) -> dict[str, str | Sequence[str]]:
    """What Grafana chooses at first: all options, or the first one; a variable's query sees those before it."""
    values: dict[str, str | Sequence[str]] = {}
    for variable in _variables(board):
        if variable["type"] != "query":
            values[variable["name"]] = variable["current"]["value"]
            continue
        rows = fetch(expand(variable["query"], Shown(shown_from, shown_to, 60.0, values)))
        options = [str(row[0]) for row in rows]
        current = variable.get("current", {}).get("value", "")
        values[variable["name"]] = chosen(current, options) if current else next(iter(options), "")
    return values


def _variables(board: Board) -> Sequence[Document]:
    found: Sequence[Document] = document(board)["templating"].get("list", ())
    return found


def listing() -> str:
    """All panels with the questions that they answer, in Markdown."""
    lines: list[str] = []
    for board in boards():
        lines += [f"### {board.title}", "", board.question, "", "| panel | answers |", "|---|---|"]
        lines += [f"| {_cell(panel['title'])} | {_cell(panel['description'])} |" for panel in panels(board)]
        lines += [f"| {_cell(marks.name)} (marks) | When, on every chart of this dashboard |" for marks in board.marks]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("${series:text}", "(the chosen reading)")
