"""The command line: `python -m fleet COMMAND`; exit code 1 is failure, 2 wrong usage or config, 130 Ctrl-C, a kill."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from fleet.cli.broker import BROKER
from fleet.cli.bundle import BUNDLE
from fleet.cli.command import FAILURE, WRONG_USE
from fleet.cli.enrol import ENROL
from fleet.cli.flash import FLASH
from fleet.cli.host import HOST
from fleet.cli.init import INIT
from fleet.cli.install import INSTALL
from fleet.cli.list import LIST
from fleet.cli.logs import LOGS
from fleet.cli.order import COMMAND
from fleet.cli.revoke import REVOKE
from fleet.cli.rollout import ROLLOUT
from fleet.cli.serve import SERVE
from fleet.cli.show import SHOW
from fleet.cli.watch import WATCH
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.cli.command import Command

_INTERRUPTED: Final = 130
# A new command is a file in fleet/cli/ and a name here.
COMMANDS: Final[tuple[Command, ...]] = (
    INIT,
    ENROL,
    HOST,
    SERVE,
    REVOKE,
    BROKER,
    BUNDLE,
    FLASH,
    INSTALL,
    ROLLOUT,
    LIST,
    SHOW,
    WATCH,
    COMMAND,
    LOGS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return WRONG_USE
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return WRONG_USE
    except FleetError as exc:
        print(f"fleet: {exc}", file=sys.stderr)
        return FAILURE
    except OSError as exc:
        # Of standard output: whoever read it has gone, as `head` does, or its disk is full; what is left goes nowhere.
        if not isinstance(exc, BrokenPipeError):
            print(f"fleet: {exc}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fleet", description="Headwater's fleet, from an operator's desk.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.what, description=command.what)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    # A terminal that is closed, and who ends it by a plain kill, want what Ctrl-C does: nothing is left lying about.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    sys.exit(main())
