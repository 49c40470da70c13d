"""What a command is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

OK: Final = 0
FAILURE: Final = 1
WRONG_USE: Final = 2


@dataclass(frozen=True, slots=True)
class Command:
    """A command: `run` returns the exit code, and may raise ConfigError (2) or FleetError (1) with what is wrong."""

    name: str
    what: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]
