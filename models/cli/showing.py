"""`python -m models recipes`: what can be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from models.cli.command import OK, Command, console

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _add_nothing(_parser: ArgumentParser) -> None:
    """It takes no arguments."""


def _recipes(_args: Namespace) -> int:
    from models.recipes import RECIPES  # noqa: PLC0415 - read by those alone that need them

    table = Table("recipe", "data", "what it tells", box=None, pad_edge=False)
    for name, recipe in RECIPES.items():
        table.add_row(Text(name), Text(recipe.dataset), Text(recipe.title))
    console().print(table)
    return OK


RECIPES = Command("recipes", "list what can be made", _add_nothing, _recipes)
