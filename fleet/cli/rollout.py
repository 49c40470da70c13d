"""`python -m fleet rollout ...`: a version comes to the nodes of a group in stages, or stops."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from contract.config import ConfigError
from contract.update import Kind
from fleet.bundle import node_files
from fleet.cli import rollout_shown as shown
from fleet.cli.arguments import open_home, takes_dry_run, takes_home, takes_json
from fleet.cli.command import FAILURE, OK, WRONG_USE, Command
from fleet.cli.sight import no_group
from fleet.errors import FleetError
from fleet.rollout.books import DSN_VARIABLE, Books, dsn
from fleet.rollout.desk import Desk
from fleet.rollout.drive import LOOK_EVERY_S, Driver, TakenError
from fleet.rollout.judge import OPEN, failed
from fleet.rollout.plan import STAGES, Amount, span
from fleet.rollout.start import Wish, begin, planned, whoever

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Callable

    from fleet.home import Home
    from fleet.rollout.books import Look
    from fleet.rollout.judge import Rollout

_EPILOG: Final = (
    f"The database is named by the environment variable {DSN_VARIABLE}; the role headwater_operator is enough. "
    "A roll-out goes on only while `start` or `resume` runs: end it, or kill it, and `resume` goes on where it was."
)
_LISTED: Final = 20


def _add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.set_defaults(run_rollout=partial(_help, parser))
    commands = parser.add_subparsers(dest="what", metavar="WHAT")
    _add_start(commands)
    each = _add(commands, "list", "the newest roll-outs", _list)
    each.add_argument("-n", type=int, default=_LISTED, dest="limit", metavar="N", help=f"how many (default: {_LISTED})")
    takes_json(each)
    for name, text, run in (
        ("show", "its stages and its nodes", _show),
        ("watch", "the same, again at each change until it is over", _watch),
        ("status", "one line of it; exit code 1 when it has stopped, was aborted, or nobody drives it", _status),
    ):
        each = _add_of_one(commands, name, text, run)
        takes_json(each)
    for name, text, run in (
        ("pause", "ask no more nodes, and take back what nodes that are away were asked", _pause),
        ("abort", "end it: nothing of it stays at the broker; nodes that have the version keep it", _abort),
    ):
        each = _add_of_one(commands, name, text, run)
        takes_home(each)
        takes_dry_run(each)
        takes_json(each)
    _add_resume(commands)


def _help(parser: ArgumentParser, _args: Namespace) -> int:
    parser.print_help()
    return WRONG_USE


def _add_start(commands: _SubParsersAction[ArgumentParser]) -> None:
    each = _add(commands, "start", "begin one, and drive it to its end", _start)
    takes_home(each)
    each.add_argument("kind", choices=get_args(Kind), metavar="KIND", help=", ".join(get_args(Kind)))
    each.add_argument("name", metavar="NAME", help="the model's name in the nodes' configuration; else as KIND")
    each.add_argument("file", type=Path, metavar="FILE", help="archive, or directory, of an agent or model; or a YAML")
    each.add_argument("--version", required=True, metavar="V", help="what the version is called")
    each.add_argument("--group", metavar="G", help="group of nodes (default: the only one of the fleet)")
    each.add_argument("--nodes", metavar="A,B,...", help="these alone, in this order (default: all, by who is there)")
    each.add_argument(
        "--stages",
        default=STAGES,
        metavar="S,S,...",
        help=f"[NAME:]NODES or [NAME:]PERCENT%%, each counted from the first (default: {STAGES.replace('%', '%%')})",
    )
    each.add_argument(
        "--max-failed", default="5%", metavar="N|P%", help="nodes that may fail; one more stops it (default: 5%%)"
    )
    each.add_argument(
        "--soak", default="10m", metavar="T", help="how long a stage has to hold before the next (default: 10m)"
    )
    each.add_argument("--within", default="30m", metavar="T", help="time for a node to confirm (default: 30m)")
    each.add_argument(
        "--expires", default="7d", metavar="T", help="how long it waits for nodes that are away (default: 7d)"
    )
    each.add_argument("--url", metavar="URL", help="where devices fetch FILE (default: from the broker)")
    takes_dry_run(each)
    takes_json(each)


def _add_resume(commands: _SubParsersAction[ArgumentParser]) -> None:
    each = _add_of_one(
        commands, "resume", "go on with one that was paused, stopped, or whose driver has ended", _resume
    )
    takes_home(each)
    each.add_argument("--max-failed", metavar="N", help="of one that stopped: how many nodes may fail from now on")
    takes_dry_run(each)
    takes_json(each)


def _add_of_one(
    commands: _SubParsersAction[ArgumentParser], name: str, text: str, run: Callable[[Namespace], int]
) -> ArgumentParser:
    each = _add(commands, name, text, run)
    each.add_argument("rollout", type=int, metavar="ID", help="its number")
    return each


def _add(
    commands: _SubParsersAction[ArgumentParser], name: str, text: str, run: Callable[[Namespace], int]
) -> ArgumentParser:
    each = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", epilog=_EPILOG)
    each.set_defaults(run_rollout=run)
    return each


def _start(args: Namespace) -> int:
    home, database = open_home(args), dsn()
    wish, desk = _wish(args, home), Desk.of(home)
    if wish.kind == "config":
        _check_config(wish, home)
    with Books.open(database) as books:
        with planned(wish, home.registry, books, desk, to_keep=not args.dry_run) as plan:
            shown.plan(plan, args.json)
            if args.dry_run:
                return OK
            number = begin(plan, home.registry, books, desk)
        shown.begun(number, args.json)
    return _drive(args, desk, number)


def _wish(args: Namespace, home: Home) -> Wish:
    groups = home.settings.groups
    group = args.group or (groups[0] if len(groups) == 1 else None)
    if group is None:
        raise ConfigError(f"--group: which one? {', '.join(groups)}")
    if group not in groups:
        raise no_group("--group", group, groups)
    if args.kind not in ("model", args.name):
        raise ConfigError(f"NAME: found {args.name!r}, allowed for kind {args.kind}: {args.kind}")
    nodes = None if args.nodes is None else tuple(filter(None, map(str.strip, args.nodes.split(","))))
    second = timedelta(seconds=1)
    return Wish(
        args.kind,
        args.name,
        args.file,
        args.version,
        group,
        nodes,
        args.stages,
        Amount.parse(args.max_failed, "--max-failed"),
        span(args.soak, "--soak"),
        span(args.within, "--within", least=second),
        span(args.expires, "--expires", least=second),
        args.url,
    )


def _check_config(wish: Wish, home: Home) -> None:
    """As `fleet flash` does, for a device that refuses it is far away; raises ConfigError."""
    group = [node.name for node in home.registry.nodes() if node.group == wish.group and node.revoked_at is None]
    nodes = list(dict.fromkeys(group if wish.nodes is None else wish.nodes))
    if len(nodes) != 1:
        raise ConfigError(f"--nodes: found {len(nodes)}, allowed is one: a configuration names the node it is for")
    node_files(nodes[0], wish.group, wish.file, None)


def _drive(args: Namespace, desk: Desk, number: int) -> int:
    with Driver(dsn(), desk, number, lambda event: shown.event(event, args.json)) as driver:
        try:
            rollout = driver.run(LOOK_EVERY_S)
        except KeyboardInterrupt:
            shown.left(number, args.json)
            raise
    shown.line(rollout, args.json)
    return OK if rollout.state == "done" else FAILURE


def _list(args: Namespace) -> int:
    with Books.open(dsn()) as books:
        shown.listing(books.listed(args.limit), args.json)
    return OK


def _show(args: Namespace) -> int:
    with Books.open(dsn()) as books:
        shown.whole(books.look(args.rollout), args.json)
    return OK


def _watch(args: Namespace) -> int:
    last = None
    with Books.open(dsn()) as books:
        while True:
            look = books.look(args.rollout)
            if (seen := (look.rollout.state, look.rollout.stage, look.nodes)) != last:
                shown.whole(look, args.json)
                last = seen
            if look.rollout.cleared_at is not None:
                return OK
            time.sleep(LOOK_EVERY_S)


def _status(args: Namespace) -> int:
    with Books.open(dsn()) as books:
        look = books.look(args.rollout)
    rollout = look.rollout
    is_left = rollout.state == "running" and not shown.is_driven(rollout, look.at)
    shown.line(rollout, args.json, f"; {shown.nobody_drives(rollout)}" if is_left else "")
    return OK if rollout.state in {"done", "paused", "running"} and not is_left else FAILURE


def _pause(args: Namespace) -> int:
    return _turn(args, lambda books, by: books.turn(args.rollout, "paused", by, ("running",)), "pause")


def _abort(args: Namespace) -> int:
    return _turn(args, lambda books, by: books.turn(args.rollout, "aborted", by, tuple(OPEN)), "abort")


def _turn(args: Namespace, turn: Callable[[Books, str], Rollout], what: str) -> int:
    """Says it, and has the broker follow: whoever drives does, or, where nobody drives, we do."""
    desk = Desk.of(open_home(args))
    with Books.open(dsn()) as books:
        if args.dry_run:
            shown.would(what, books.look(args.rollout), args.json)
            return OK
        rollout = turn(books, f"by {whoever()}")
    try:
        with Driver(dsn(), desk, args.rollout, lambda event: shown.event(event, args.json)) as driver:
            shown.line(driver.settle(LOOK_EVERY_S), args.json)
    except TakenError:
        shown.line(rollout, args.json)
        shown.elsewhere(args.rollout, args.json)
    return OK


def _resume(args: Namespace) -> int:
    desk = Desk.of(open_home(args))
    with Books.open(dsn()) as books:
        look = books.look(args.rollout)
        most = _allowed(args, look)
        if args.dry_run:
            shown.would("resume", look, args.json)
            return OK
        rollout = look.rollout
        if rollout.state in ("paused", "stopped"):
            rollout = books.turn(args.rollout, "running", None, ("paused", "stopped"), most)
        elif rollout.cleared_at is not None:
            raise FleetError(f"roll-out {args.rollout} is {rollout.state}: there is nothing to go on with")
    try:
        return _drive(args, desk, args.rollout)
    except TakenError:
        shown.line(rollout, args.json)
        shown.elsewhere(args.rollout, args.json)
        return OK


def _allowed(args: Namespace, look: Look) -> int | None:
    """How many may fail from now on; raises ConfigError where it would stop again at once."""
    rollout, count = look.rollout, failed(look.nodes)
    given = args.max_failed
    most = rollout.max_failed if given is None else Amount.parse(given, "--max-failed").of(len(look.nodes), up=False)
    if rollout.state in OPEN and count > most:
        raise ConfigError(f"--max-failed: {count} nodes of roll-out {rollout.rollout_id} have failed: allow as many")
    return None if given is None else most


def _run(args: Namespace) -> int:
    code: int = args.run_rollout(args)
    return code


ROLLOUT: Final = Command(
    "rollout", "bring a version of an agent, a configuration or a model to nodes in stages", _add_arguments, _run
)
