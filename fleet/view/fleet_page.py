"""The fleet on a screen: how many nodes there are and how they fare, a row for each, and what needs somebody."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from fleet.view.node import DISK_LOW, HOT_CELSIUS, SPOOL_FULL, State, worst_first
from fleet.view.table import BAD, DIM, GOOD, WARNING, Column, styled, table
from fleet.view.wording import UNKNOWN, number, plain, share, span, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from fleet.view.node import Node

_STATES: Final = {
    State.ONLINE: GOOD,
    State.SILENT: WARNING,
    State.OFFLINE: BAD,
    State.NEVER: DIM,
    State.REVOKED: DIM,
}
_CLOCKS: Final = {1: "sync", 0: "no sync"}
_WIDE: Final = 110
# Wide enough for what is wrong beside each node; below it stands under the table.
_WIDEST: Final = 150
NO_NODES: Final = (
    "No node has come yet. `python -m fleet enrol NODE` makes one known; once its agent runs, and bridge and stream "
    "run, too, it stands here. docs/fleet.md goes through it."
)


def state_style(node: Node, now: datetime) -> str:
    """The colour of its state."""
    return _STATES[node.state(now)]


def certificate(node: Node, now: datetime) -> str:
    """How long its certificate is good; a dash where the home knows no such node."""
    return "revoked" if node.revoked_at is not None else until(node.certificate_ends_at, now)


def _bad_if(*, bad: bool) -> str:
    return BAD if bad else ""


def _spool_style(node: Node, _now: datetime) -> str:
    return _bad_if(bad=(node.spool_share or 0) >= SPOOL_FULL)


def _certificate_style(node: Node, now: datetime) -> str:
    return _bad_if(bad=any(each.kind == "certificate" for each in node.troubles(now)))


def _seen(node: Node, now: datetime) -> str:
    return UNKNOWN if node.seen_at is None else span((now - node.seen_at).total_seconds())


def _clock(node: Node, _now: datetime) -> str:
    return UNKNOWN if node.clock_synchronised is None else _CLOCKS[int(node.clock_synchronised == 1)]


def _update(node: Node, _now: datetime) -> str:
    return node.failed_updates[0].outcome if node.failed_updates else UNKNOWN


def _wrong(node: Node, now: datetime) -> str:
    return "; ".join(trouble.text for trouble in node.troubles(now))


_COLUMNS: Final[tuple[Column[Node], ...]] = (
    Column("State", lambda node, now: node.state(now), state_style),
    Column("Seen", _seen, justify="right"),
    Column("Version", lambda node, _: node.version or UNKNOWN, most=15, least=9),
    Column("Spool", lambda node, _: number(node.spool_batches), _spool_style, "right"),
    Column("Full", lambda node, _: share(node.spool_share), _spool_style, "right", needs=_WIDE),
    Column("Clock", _clock, lambda node, _: WARNING if node.clock_synchronised == 0 else ""),
    Column(
        "°C",
        lambda node, _: number(node.celsius),
        lambda node, _: _bad_if(bad=(node.celsius or 0) >= HOT_CELSIUS),
        "right",
    ),
    Column(
        "Disk",
        lambda node, _: share(node.disk_share),
        lambda node, _: _bad_if(bad=node.disk_share is not None and node.disk_share < DISK_LOW),
        "right",
        needs=_WIDE,
    ),
    Column(
        "Lost", lambda node, _: number(node.lost_batches), lambda node, _: _bad_if(bad=bool(node.lost_batches)), "right"
    ),
    Column("Cert", certificate, _certificate_style, "right"),
)
_UPDATE: Final[Column[Node]] = Column("Update", _update, lambda node, _: _bad_if(bad=bool(node.failed_updates)))
_WRONG: Final[Column[Node]] = Column("What is wrong", _wrong, lambda *_: WARNING, most=300, least=20, needs=_WIDEST)


def fleet_page(
    nodes: Sequence[Node], now: datetime, width: int, *, rows: int | None = None, first: int = 0
) -> RenderableType:
    """All of these nodes, or as many from `first` on as there are rows for, the worst first."""
    if not nodes:
        return Text(NO_NODES)
    ordered = worst_first(list(nodes), now)
    shown = ordered[first:] if rows is None else ordered[first : first + rows]
    parts: list[RenderableType] = [summary(nodes, now), Text(), table(_columns(nodes), shown, now, width)]
    if len(shown) < len(nodes):
        parts.append(Text(f"{first + 1} to {first + len(shown)} of {len(nodes)}, the worst first", style=DIM))
    elif width < _WIDEST and (wrong := troubles(ordered, now)):
        parts += [Text(), *_fitting(wrong, None if rows is None else rows - len(shown))]
    return Group(*parts)


def _columns(nodes: Sequence[Node]) -> tuple[Column[Node], ...]:
    several = len({node.group for node in nodes}) > 1
    name: Column[Node] = Column("Node", lambda node, _: node.full_name if several else node.name, least=12)
    # Where all is well with updates they take no room.
    update = (_UPDATE,) if any(node.failed_updates for node in nodes) else ()
    return (name, *_COLUMNS, *update, _WRONG)


def summary(nodes: Sequence[Node], now: datetime) -> Text:
    """How many there are, how many of them are there, and how many need somebody."""
    states = Counter(node.state(now) for node in nodes)
    unwell = sum(bool(node.troubles(now)) for node in nodes)
    told = Text(f"{len(nodes)} node{'s' * (len(nodes) != 1)}: ")
    for place, (state, style) in enumerate((state, _STATES[state]) for state in _STATES if states[state]):
        told.append(", " if place else "").append(f"{states[state]} {state}", style)
    if unwell:
        told.append(f"; {unwell} with trouble", WARNING)
    return told


def troubles(nodes: Sequence[Node], now: datetime) -> list[Text]:
    """A line for each node that needs somebody."""
    lines = []
    for node in nodes:
        if wrong := _wrong(node, now):
            line = Text(f"! {plain(node.full_name)}: ", style=WARNING)
            lines.append(line.append(plain(wrong)))
    return lines


def _fitting(lines: list[Text], rows: int | None) -> list[Text]:
    """As many as there is room for, a row each; all of them whole where there is no bound."""
    if rows is None:
        return lines
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines[: max(0, rows)]


def status_line(node: Node, now: datetime) -> Text:
    """A node in one line, for where there is no screen."""
    wrong = _wrong(node, now)
    line = styled(f"{node.full_name} {node.state(now)}")
    return line.append(f": {plain(wrong)}") if wrong else line
