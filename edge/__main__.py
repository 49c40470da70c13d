"""The command line: `python -m edge COMMAND`; exit code 1 is failure, 2 wrong usage or config, 130 Ctrl-C."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from edge.cli.check import CHECK
from edge.cli.command import FAILURE, WRONG_USE
from edge.cli.enrol import ENROL
from edge.cli.poll_once import POLL_ONCE
from edge.cli.probe import PROBE
from edge.cli.profiles import PROFILES
from edge.cli.run import RUN
from edge.cli.status import STATUS
from edge.errors import EdgeError
from edge.logs import configure

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED: Final = 130
# A new command is a file in edge/cli/ and a name here.
COMMANDS: Final = (RUN, STATUS, CHECK, POLL_ONCE, PROFILES, PROBE, ENROL)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    args = _parser().parse_args(argv)
    args.log = configure(args.log_format, verbose=args.verbose)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no ° shall see the rest
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return WRONG_USE
    except EdgeError as exc:
        print(f"edge: {exc}", file=sys.stderr)
        return FAILURE
    except BrokenPipeError:
        # Whoever read it has gone, as `head` does; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edge", description="Headwater's agent on the device.")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell every detail")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="log lines for people, or a JSON object each"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.what, description=command.what)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
