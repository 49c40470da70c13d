"""Every option of the technician's commands stands in docs/fleet.md, section Watch."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.cli.list import LIST
from fleet.cli.logs import LOGS
from fleet.cli.order import COMMAND
from fleet.cli.show import SHOW
from fleet.cli.watch import WATCH
from fleet.view.database import add_database

if TYPE_CHECKING:
    from fleet.cli.command import Command

PAGE = Path(__file__).parents[3] / "docs/fleet.md"
COMMANDS = (LIST, SHOW, WATCH, COMMAND, LOGS)


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Of a parser and of those below it."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found |= {name} | options(below)
    return found - {"--help"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_page_names_every_option(command: Command) -> None:
    parser = argparse.ArgumentParser(prog=command.name)
    command.add_arguments(parser)
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (told,) = [part for part in section if part.startswith("Watch\n")]
    assert f"fleet {command.name} " in told
    assert {option for option in options(parser) if not re.search(rf"{option}\b", told)} == set()
    assert parser.format_help()


def test_what_the_page_says_of_the_database_is_what_help_says() -> None:
    parser = argparse.ArgumentParser()
    add_database(parser)
    for variable in re.findall(r"HEADWATER_\w+", parser.format_help()):
        assert variable in PAGE.read_text()
