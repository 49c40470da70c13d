"""`python -m fleet watch [NODE]`: the fleet, or a node, as it changes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from fleet.cli.arguments import seconds
from fleet.cli.command import OK, Command
from fleet.cli.sight import check_group, enrolled, home_if_any, takes_sight
from fleet.view.database import chosen_dsn, opened
from fleet.view.live import Seen, Watch, watch_lines, watch_screen
from fleet.view.node_page import find, read_page
from fleet.view.nodes import nodes, now
from fleet.view.terminal import terminal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.home import Home

_SHORTEST_S: Final = 0.5
_LONGEST_S: Final = 3600.0


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("node", nargs="?", metavar="NODE", help="one node, by its name or GROUP/NODE (default: all)")
    parser.add_argument("--group", help="nodes of this group only")
    parser.add_argument(
        "--every",
        type=seconds(_SHORTEST_S, _LONGEST_S),
        default=2.0,
        metavar="S",
        help="seconds between looks (default: 2)",
    )
    takes_sight(parser)


def _watch(args: Namespace) -> int:
    if args.group is not None and args.node is not None:
        raise ConfigError("--group: is for all nodes of it, without NODE; GROUP/NODE is one of them")
    dsn, home = chosen_dsn(args.dsn), home_if_any(args)
    with opened(dsn) as database:
        check_group(args, nodes(database, enrolled(home)))
    watch = Watch(lambda: _look(args, dsn, home), args.every)
    console = terminal()
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        watch_screen(watch, console, args.every)
    else:
        watch_lines(watch, console, args.every)
    return OK


def _look(args: Namespace, dsn: str, home: Home | None) -> Seen:
    """A connection for each look: one that breaks is then nothing special. The home's nodes change as well."""
    known = enrolled(home)
    with opened(dsn) as database:
        at = now(database)
        if args.node is None:
            return Seen(at, nodes(database, known, group=args.group))
        node = find(database, args.node, known)
        return Seen(at, [node], read_page(database, node))


WATCH: Final = Command(
    "watch",
    "show the fleet, or a node, as it changes, until q or Ctrl-C; lines where there is no terminal",
    _add_arguments,
    _watch,
)
