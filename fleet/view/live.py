"""The fleet, or a node, as it changes: on a screen of its own, or as lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable  # noqa: TC003 - dataclasses show their annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.segment import Segment, Segments
from rich.text import Text

from fleet.errors import FleetError
from fleet.view.fleet_page import fleet_page, status_line
from fleet.view.keyboard import keys
from fleet.view.node_page import node_page
from fleet.view.table import BAD, DIM
from fleet.view.wording import plain, span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import Console, RenderableType

    from fleet.view.node import Node
    from fleet.view.node_page import NodePage

# What stands above and below the rows: a summary, headings, the last line, and what separates them.
_FRAME_ROWS: Final = 6
# Below a node: a fault, if there is one, and what the keys do.
_LAST_ROWS: Final = 2
_CTRL_C: Final = "\x03"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read at a time of the database's: all nodes, and the page of the one that is watched, if one is."""

    at: datetime
    nodes: Sequence[Node]
    page: NodePage | None = None


class Watch:
    """What is watched: `read` may raise FleetError, which is shown, and tried again `every_s`."""

    def __init__(self, read: Callable[[], Seen], every_s: float) -> None:
        self._read = read
        self._every_s = every_s
        self._seen: Seen | None = None
        self._seen_s = 0.0
        self._fault: str | None = None
        self._first = self._rows = 0

    def look(self) -> Seen:
        """Reads once more; what was seen last. Raises FleetError where nothing ever was."""
        try:
            self._seen, self._seen_s, self._fault = self._read(), time.monotonic(), None
        except FleetError as exc:
            if self._seen is None:
                raise
            self._fault = str(exc)
        return self._seen

    @property
    def fault(self) -> str | None:
        """Why nothing new is to be had."""
        return self._fault

    def key(self, pressed: str, height: int) -> bool:
        """Does what a key asks for; whether to go on."""
        page = max(1, height - _FRAME_ROWS)
        if pressed == "n" and self._first + page < self._rows:
            self._first += page
        elif pressed == "p":
            self._first = max(0, self._first - page)
        return pressed not in {"q", "Q", _CTRL_C}

    def screen(self, console: Console) -> RenderableType:
        """What stands on this screen."""
        parts: list[RenderableType] = []
        if self._seen is not None:
            parts.append(self._content(self._seen, console))
        if self._fault is not None:
            since = span(time.monotonic() - self._seen_s)
            fault = Text(f"! nothing new for {since}: {plain(self._fault)}", style=BAD)
            parts.append(Text.assemble(fault, no_wrap=True, overflow="ellipsis"))
        parts.append(Text(f"q ends, n and p turn pages; read every {self._every_s:g} s", style=DIM))
        return Group(*parts)

    def _content(self, seen: Seen, console: Console) -> RenderableType:
        width, rows = console.width, max(1, console.height - _FRAME_ROWS)
        if seen.page is None:
            self._rows = len(seen.nodes)
            self._first = min(self._first, max(0, self._rows - 1))
            return fleet_page(seen.nodes, seen.at, width, rows=rows, first=self._first)
        lines = console.render_lines(node_page(seen.page, seen.at, width), console.options.update(height=None))
        self._rows = len(lines)
        self._first = min(self._first, max(0, self._rows - 1))
        shown = lines[self._first : self._first + console.height - _LAST_ROWS]
        return Segments([segment for line in shown for segment in (*line, Segment.line())])


def watch_screen(watch: Watch, console: Console, every_s: float) -> None:
    """Shows it until a key ends it."""
    with keys() as key, Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            watch.look()
            next_s = time.monotonic() + every_s
            while True:
                live.update(watch.screen(console), refresh=True)
                pressed = key(next_s - time.monotonic())
                if not watch.key(pressed, console.height):
                    return
                if time.monotonic() >= next_s:
                    break


def watch_lines(watch: Watch, console: Console, every_s: float) -> None:
    """Tells each node once, and then again whenever its state or what is wrong with it changes; never ends."""
    told: dict[str, tuple[object, ...]] = {}
    fault: str | None = None
    while True:
        seen = watch.look()
        if watch.fault != fault:
            fault = watch.fault
            console.print(Text(f"! {plain(fault)}" if fault else "the database answers again"), soft_wrap=True)
        for node in seen.nodes if fault is None else ():
            state = (node.state(seen.at), *(trouble.kind for trouble in node.troubles(seen.at)))
            if told.get(node.full_name) != state:
                told[node.full_name] = state
                line = Text(f"{seen.at.astimezone():%Y-%m-%d %H:%M:%S} ")
                console.print(line.append_text(status_line(node, seen.at)), soft_wrap=True)
        time.sleep(every_s)
