"""What a command is, and what the commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError, read_config
from edge.config import AgentConfig

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence

OK: Final = 0
FAILURE: Final = 1
WRONG_USE: Final = 2
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Command:
    """A command: `run` returns the exit code, and may raise ConfigError (2) or EdgeError (1) with what is wrong."""

    name: str
    what: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def takes_config(parser: ArgumentParser) -> None:
    """The argument CONFIG, as `args.config`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the agent's YAML file")


def load(path: Path) -> AgentConfig:
    """The configuration in a file, the broker's password at hand; raises ConfigError."""
    config = read_config(path, AgentConfig)
    try:
        config.mqtt.password()
    except ConfigError as exc:
        raise ConfigError(f"{path}: mqtt.{exc}") from exc
    return config


def shown_bytes(size: float) -> str:
    """A size as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB or unit == "GiB":
            break
        size /= _KIB
    return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"


def plain(text: str) -> str:
    """A stranger's words, such as a device's or a server's, without what would command a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def print_table(
    rows: Sequence[Sequence[str]], paint: Callable[[Sequence[str], str], str] = lambda _row, cell: cell
) -> None:
    """Prints rows, made plain, with their columns aligned; the first are the headings. `paint` may colour a cell."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[-1] = row[-1]
        print("  ".join(paint(row, cell) for cell in cells).rstrip())
