"""`python -m fleet show NODE`: all that is known of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleet.cli.arguments import takes_json
from fleet.cli.command import OK, Command
from fleet.cli.sight import database, enrolled, home_if_any, node_in_json, print_json, takes_sight
from fleet.view.node_page import find, node_page, read_page
from fleet.view.nodes import now
from fleet.view.terminal import terminal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="its name, or GROUP/NODE")
    takes_json(parser)
    takes_sight(parser)


def _show(args: Namespace) -> int:
    with database(args) as found:
        at = now(found)
        page = read_page(found, find(found, args.node, enrolled(home_if_any(args))))
    if args.json:
        print_json({**node_in_json(page.node, at), **page.told})
        return OK
    console = terminal()
    console.print(node_page(page, at, console.width))
    return OK


SHOW: Final = Command(
    "show", "say all that is known of a node: health, sources, events, gaps, commands, updates", _add_arguments, _show
)
