"""`python -m fleet list`: every node in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from fleet.cli.arguments import takes_json
from fleet.cli.command import OK, Command
from fleet.cli.sight import check_group, database, enrolled, home_if_any, node_in_json, print_json, takes_sight
from fleet.view.fleet_page import fleet_page, summary
from fleet.view.node import State
from fleet.view.nodes import nodes, now
from fleet.view.terminal import terminal
from fleet.view.wording import plain

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--group", help="nodes of this group only")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--silent", action="store_true", help="only those that are not there, or say nothing")
    which.add_argument("--trouble", action="store_true", help="only those that need somebody")
    takes_json(parser)
    takes_sight(parser)


def _list(args: Namespace) -> int:
    with database(args) as found:
        at, everyone = now(found), nodes(found, enrolled(home_if_any(args)))
    check_group(args, everyone)
    known = [node for node in everyone if args.group in (None, node.group)]
    shown = [
        node
        for node in known
        if (not args.silent or node.state(at) is not State.ONLINE) and (not args.trouble or node.troubles(at))
    ]
    if args.json:
        print_json([node_in_json(node, at) for node in shown])
        return OK
    console = terminal()
    if known and not shown:
        console.print(Text.assemble(summary(known, at), "\nnone of that kind: all is well"))
    elif args.group and not known:
        console.print(Text(f"no node of group {plain(args.group)} has come yet"))
    else:
        console.print(fleet_page(shown, at, console.width))
    return OK


LIST: Final = Command("list", "say how every node fares, those that need somebody first", _add_arguments, _list)
