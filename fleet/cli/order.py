"""`python -m fleet command NODE ...`: a node is told to do something, and its answer is waited for."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from contract.errors import TopicError
from fleet.cli.arguments import takes_dry_run, takes_json
from fleet.cli.command import FAILURE, OK, Command
from fleet.cli.reach import reached, takes_reach, which_node
from fleet.remote.command import TYPES, Order, State, carry_out, rebirth, reload, value_of
from fleet.view.wording import plain

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.remote.command import Outcome

_WAIT_S: Final = 10.0
# Without a bridge births are tried again with pauses of up to 15 s, one in 5 s at most.
_BIRTH_WAIT_S: Final = 20.0
_NOTHING: Final = "nothing was sent"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="a node of the home, or GROUP/NODE")
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, help_text in (("rebirth", "tell all births again"), ("reload", "read the configuration again")):
        each = what.add_parser(name, help=help_text, description=help_text)
        _takes_common(each, _BIRTH_WAIT_S if name == "rebirth" else _WAIT_S)
    help_text = "set a metric that the node's configuration calls writable"
    write = what.add_parser("write", help=help_text, description=f"{help_text}; what is read back is told")
    write.add_argument("device", metavar="DEVICE", help="the source, as the node calls it")
    write.add_argument("metric", metavar="METRIC", help="such as tank1/level_setpoint")
    write.add_argument("value", metavar="VALUE", help="a number, true, false, or a text; a negative one after --")
    write.add_argument(
        "--type", choices=TYPES, metavar="TYPE", help=f"of the value: {', '.join(TYPES)} (default: as it looks)"
    )
    write.add_argument("--yes", action="store_true", help="write without asking")
    _takes_common(write, _WAIT_S)


def _takes_common(parser: ArgumentParser, wait_s: float) -> None:
    takes_reach(parser, wait_s)
    takes_dry_run(parser)
    takes_json(parser)


def _command(args: Namespace) -> int:
    order = _order(args)
    if args.dry_run:
        told = {"would": order.shown, "topic": order.topic}
        print(json.dumps(told) if args.json else f"would {plain(order.shown)}, on {plain(order.topic)}")
        return OK
    if args.what == "write" and not args.yes and not _is_wanted(order):
        print(_NOTHING, file=sys.stderr)
        return FAILURE
    if args.what == "rebirth":
        print(f"waiting for a birth of {plain(args.node)}, up to {args.wait:g} s", file=sys.stderr)
    with reached(args) as session:
        outcome = carry_out(session, order, args.wait)
    _tell(args, order, outcome)
    return OK if outcome.state is State.DONE else FAILURE


def _order(args: Namespace) -> Order:
    group, node = which_node(args)
    if args.what != "write":
        return (rebirth if args.what == "rebirth" else reload)(group, node)
    datatype, value = value_of(args.value, args.type)
    order = Order(group, node, args.metric, datatype, value, args.device)
    try:
        _ = order.topic
    except TopicError as exc:
        raise ConfigError(plain(exc)) from exc
    return order


def _is_wanted(order: Order) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("a write moves something out there: say --yes where nobody can be asked")
    print(f"{plain(order.shown)}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _tell(args: Namespace, order: Order, outcome: Outcome) -> None:
    if args.json:
        print(json.dumps({"node": order.node, "group": order.group, "command": order.name, **asdict(outcome)}))
        return
    took = "" if outcome.took_s is None else f" after {outcome.took_s:.1f} s"
    read = "" if outcome.value is None or outcome.state is not State.DONE else f": {outcome.value}"
    why = "" if outcome.reason is None else f": {outcome.reason}"
    line = plain(f"{order.shown}: {outcome.state}{took}{read}{why} (id {outcome.command_id})")
    print(line, file=sys.stdout if outcome.state is State.DONE else sys.stderr)


COMMAND: Final = Command("command", "tell a node to do something, and say what became of it", _add_arguments, _command)
