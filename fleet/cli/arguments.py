"""Arguments that commands share."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.home import Home

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

HOME_VARIABLE: Final = "HEADWATER_FLEET"


def takes_home(parser: ArgumentParser) -> None:
    """The option --home, for `home_path` and `open_home`."""
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help=f"the operator's directory (default: ${HOME_VARIABLE}, else ./fleet-home)",
    )


def home_path(args: Namespace) -> Path:
    """Where the operator's directory is."""
    given: Path | None = args.home
    return given or Path(os.environ.get(HOME_VARIABLE) or "fleet-home")


def open_home(args: Namespace) -> Home:
    """The operator's directory; raises ConfigError where there is none."""
    return Home.open(home_path(args))


def seconds(shortest: float, longest: float) -> Callable[[str], float]:
    """What reads an option's seconds, within these bounds."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not shortest <= found <= longest:
            raise ArgumentTypeError(f"found {text!r}, allowed: {shortest:g} to {longest:g} s")
        return found

    return read


def takes_json(parser: ArgumentParser) -> None:
    """The option --json, as `args.json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def takes_dry_run(parser: ArgumentParser) -> None:
    """The option --dry-run, as `args.dry_run`."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
