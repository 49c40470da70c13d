"""One node on a screen: how it fares, its sources, what happened, what is missing, what it was told and runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleet.errors import FleetError
from fleet.view.fleet_page import certificate, state_style
from fleet.view.nodes import nodes
from fleet.view.sections import SECTIONS
from fleet.view.table import DIM, WARNING, styled, table
from fleet.view.wording import UNKNOWN, ago, number, plain, share, size, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from fleet import registry
    from fleet.view.database import Database
    from fleet.view.node import Node

# So many lines of each table stand on a screen; JSON has all that was asked for.
_RECENT: Final = 8


@dataclass(frozen=True, slots=True)
class NodePage:
    """A node, and by key of `SECTIONS` what there is to tell of it."""

    node: Node
    told: Mapping[str, Sequence[dict[str, Any]]]


def find(database: Database, name: str, enrolled: Iterable[registry.Node] = ()) -> Node:
    """The node called NODE or GROUP/NODE; raises FleetError where there is none, or several."""
    group, _, last = name.rpartition("/")
    found = nodes(database, enrolled, group=group or None, node=last)
    match found:
        case [node]:
            return node
        case []:
            raise FleetError(f"there is no node {plain(name)}: `fleet list` shows those there are")
        case _:
            several = ", ".join(plain(node.full_name) for node in found)
            raise FleetError(f"{plain(name)} is the name of several nodes, say which: {several}")


def read_page(database: Database, node: Node) -> NodePage:
    """What there is to tell of a node."""
    which = {"group": node.group, "node": node.name}
    return NodePage(node, {section.key: database.rows(section.statement, which) for section in SECTIONS})


def node_page(page: NodePage, now: datetime, width: int) -> RenderableType:
    """All of it, as high as it is."""
    parts: list[RenderableType] = [_head(page.node, now), _health(page.node, now)]
    parts += [Text(f"! {plain(trouble.text)}", style=WARNING) for trouble in page.node.troubles(now)]
    for section in SECTIONS:
        rows = page.told[section.key]
        parts.append(Text())
        if not rows:
            parts.append(Text(f"{section.title}: {section.nothing}", style=DIM))
            continue
        more = f" (the first {_RECENT} of {len(rows)})" if len(rows) > _RECENT and section.key != "sources" else ""
        parts.append(Text(f"{section.title}{more}", style="bold underline"))
        shown = rows if section.key == "sources" else rows[:_RECENT]
        parts.append(table(section.columns, shown, now, width))
    return Group(*parts)


def _head(node: Node, now: datetime) -> Text:
    head = styled(f"{node.full_name}  ", "bold")
    head.append(node.state(now), state_style(node, now))
    if node.seen_at is not None:
        head.append(f", seen {ago(node.seen_at, now)}")
    if node.site:
        head.append(f", {plain(node.site)}")
    return head


def _health(node: Node, now: datetime) -> Table:
    """What it tells of itself, two to a line."""
    made = Table.grid(padding=(0, 2, 0, 0))
    told = _told(node, now)
    half = (len(told) + 1) // 2
    for left, right in zip(told[:half], [*told[half:], ("", "")][:half], strict=True):
        made.add_row(styled(left[0], DIM), styled(left[1]), styled(right[0], DIM), styled(right[1]))
    return made


def _told(node: Node, now: datetime) -> list[tuple[str, str]]:
    up = UNKNOWN if node.uptime_s is None else span(node.uptime_s)
    missing = sum(filter(None, (node.undelivered, node.given_up)))
    return [
        ("version", node.version or UNKNOWN),
        ("runs for", up),
        ("born", ago(node.born_at, now)),
        ("certificate", certificate(node, now)),
        ("clock", _clock(node)),
        ("processor", number(node.celsius, " °C")),
        ("memory", number(node.memory_mib, " MiB")),
        ("disk free", f"{size(node.disk_free_bytes)}, {share(node.disk_share)}"),
        ("spool", f"{number(node.spool_batches)} batches, {size(node.spool_bytes)}"),
        ("spool full", share(node.spool_share)),
        ("batches made", number(node.produced)),
        ("missing", f"{number(missing)}, lost there {number(node.lost)}"),
    ]


def _clock(node: Node) -> str:
    if node.clock_synchronised is None:
        return UNKNOWN
    state = "synchronised" if node.clock_synchronised else "not synchronised"
    if node.clock_offset_ms is None:
        return state
    return f"{state}, {number(abs(node.clock_offset_ms), ' ms', 1)} {'behind' if node.clock_offset_ms < 0 else 'ahead'}"
