"""`python -m fleet logs NODE`: a node's own log, without SSH."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from contract.logs import LEVELS
from fleet.cli.command import OK, Command
from fleet.cli.reach import reached, takes_reach, which_node
from fleet.remote.log import NoAnswerError, NodeLog
from fleet.session import NobodyListensError
from fleet.view.wording import counted, plain

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from contract.logs import LogLine
    from fleet.remote.log import Answer

_WAIT_S: Final = 5.0
_EVERY_S: Final = 2.0
_LONGEST_S: Final = 300 * 86_400.0
_MS_PER_S: Final = 1000
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="a node of the home, or GROUP/NODE")
    parser.add_argument(
        "--since", type=_ago_s, default=600.0, metavar="AGO", help="such as 90s, 10m, 2h, 1d (default: 10m)"
    )
    parser.add_argument("--level", choices=LEVELS, default="info", help="of this level or worse (default: info)")
    parser.add_argument("--follow", action="store_true", help="go on with new lines until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line, for programs")
    takes_reach(parser, _WAIT_S)


def _ago_s(text: str) -> float:
    found = re.fullmatch(r"([1-9]\d{0,3})([smhd])", text)
    seconds = 0.0 if found is None else float(found[1]) * _UNITS_S[found[2]]
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a number and one of s, m, h, d, such as 10m, up to 300d")
    return seconds


def _logs(args: Namespace) -> int:
    group, node = which_node(args)
    began_s = time.monotonic()
    with reached(args) as session:
        log = NodeLog(session, group, node)
        answer = log.ask(args.level, args.since, None, args.wait)
        _tell(args, answer)
        if args.follow:
            _follow(args, log, began_s, answer)
    return OK


def _follow(args: Namespace, log: NodeLog, began_s: float, known: Answer) -> None:
    """Tells what is new, again and again; a node that is away for a while may come back."""
    is_away = False
    while True:
        time.sleep(_EVERY_S)
        try:
            answer = log.ask(args.level, args.since + time.monotonic() - began_s, known, args.wait)
        except (NoAnswerError, NobodyListensError) as exc:
            if not is_away:
                _note(f"{exc}; asked again and again")
            is_away = True
            continue
        is_away = False
        if answer.run != known.run:
            _note("the agent was started anew")
        _tell(args, answer)
        known = answer if answer.lines or answer.run != known.run else known


def _tell(args: Namespace, answer: Answer) -> None:
    if answer.forgotten:
        _note(f"{counted(answer.forgotten, 'older line is', 'older lines are')} no longer kept by the node")
    if answer.left_out:
        _note(f"{counted(answer.left_out, 'older line is', 'older lines are')} not shown: ask for less, or worse ones")
    for line in answer.lines:
        print(_in_json(line) if args.json else _shown(line))
    sys.stdout.flush()


def _shown(line: LogLine) -> str:
    at = datetime.fromtimestamp(line.at_ms / _MS_PER_S, UTC).astimezone()
    first, *more = line.text.split("\n")
    text = "\n".join([plain(first), *(f"    {plain(each)}" for each in more)])
    return f"{at:%Y-%m-%d %H:%M:%S} {plain(line.level):7} {plain(line.logger)}: {text}"


def _in_json(line: LogLine) -> str:
    at = datetime.fromtimestamp(line.at_ms / _MS_PER_S, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "level": line.level, "logger": line.logger, "message": line.text})


def _note(text: str) -> None:
    print(f"-- {text} --", file=sys.stderr)


LOGS: Final = Command("logs", "show a node's own log, over the broker", _add_arguments, _logs)
