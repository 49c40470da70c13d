"""Arguments that commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.home import Home

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

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


def takes_json(parser: ArgumentParser) -> None:
    """The option --json, as `args.json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def takes_dry_run(parser: ArgumentParser) -> None:
    """The option --dry-run, as `args.dry_run`."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
