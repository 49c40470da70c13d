"""The command line: `python -m models COMMAND`; exit code 1 is failure, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from models.cli.command import FAILURE, WRONG_USE
from models.cli.deploying import DEPLOY
from models.cli.keeping import COMPARE, LIST, PROMOTE
from models.cli.making import EVALUATE, MAKE, QUANTIZE, REGISTER, TRAIN
from models.cli.pulling import PULL
from models.cli.scene import SCENE
from models.cli.showing import DATA, RECIPES
from models.cli.signing import SIGN, VERIFY
from models.cli.telling import TELL
from models.errors import ModelsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED: Final = 128 + signal.SIGINT
_TERMINATED: Final = 128 + signal.SIGTERM
# A new command is a file in models/cli/ and a name here.
COMMANDS: Final = (
    RECIPES,
    DATA,
    PULL,
    TRAIN,
    EVALUATE,
    QUANTIZE,
    REGISTER,
    MAKE,
    SCENE,
    LIST,
    COMPARE,
    PROMOTE,
    DEPLOY,
    SIGN,
    VERIFY,
    TELL,
)


class _TerminatedError(BaseException):
    """SIGTERM, made to unwind like Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except UsageError as exc:
        print(f"models: {exc}", file=sys.stderr)
        return WRONG_USE
    except BrokenPipeError:
        # Whoever read it has gone, as `head` does; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except (ModelsError, OSError) as exc:
        print(f"models: {_told(exc)}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        print("models: stopped; `train` goes on from its last checkpoint", file=sys.stderr)
        return _INTERRUPTED
    except _TerminatedError:
        return _TERMINATED
    return code


def _told(exc: ModelsError | OSError) -> str:
    """An OSError is a disk that is full, or a file that may not be read or written, wherever it was met."""
    return f"{exc.filename or 'a file'}: {exc.strerror or exc}" if isinstance(exc, OSError) else str(exc)


def _terminate(_signal: int, _frame: object) -> None:
    raise _TerminatedError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models", description="Makes Headwater's models, judges them, and keeps their versions."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.what, description=command.what)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
