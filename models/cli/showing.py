"""`python -m models recipes|data`: what can be made, and of what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from models.cli.command import OK, Command, console, options_of, takes_options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from models.data import Described


def _add_nothing(_parser: ArgumentParser) -> None:
    """It takes no arguments."""


def _recipes(_args: Namespace) -> int:
    from models.recipes import RECIPES  # noqa: PLC0415 - read by those alone that need them
    from models.scene.stage import GATE  # noqa: PLC0415 - as above

    table = Table("recipe", "data", "what it makes", box=None, pad_edge=False)
    for name, recipe in RECIPES.items():
        table.add_row(Text(name), Text(recipe.dataset), Text(recipe.title))
    table.add_row(Text(GATE), Text("simulated camera"), Text("What a camera usually sees in its quiet hours"))
    console().print(table)
    return OK


def _add_data(parser: ArgumentParser) -> None:
    parser.add_argument(
        "sets", nargs="*", metavar="NAME", help="download or simulate these and show them; none: list what there is"
    )
    takes_options(parser)


def _data(args: Namespace) -> int:
    from models.data import NAMES, about, describe, load  # noqa: PLC0415 - as above
    from models.data.kept import names as kept_names  # noqa: PLC0415 - as above

    options = options_of(args)
    if args.sets:
        for name in args.sets:
            options.console.print(_described(describe(load(name, options))))
        return OK
    table = Table("data set", "what it is", "good for", "not for", box=None, pad_edge=False)
    for name in NAMES:
        known = about(name)
        table.add_row(*map(Text, (name, known.title, known.good_for, known.not_for)))
    for name in kept_names(options):
        table.add_row(Text(name), Text("what `pull` put aside"))
    options.console.print(table)
    return OK


def _described(found: Described) -> Table:
    rows = {
        found.name: found.about.title,
        "from": found.origin,
        "licence": found.about.licence,
        "tables": f"{len(found.keys)}: {', '.join(found.keys[:10])}",
        "rows": f"{found.rows:,}, a step of {found.step_s:g} s, {found.from_at:%Y-%m-%d} to {found.to_at:%Y-%m-%d}",
        "columns": ", ".join(found.columns),
        "incidents": str(found.incidents),
        "good for": found.about.good_for,
        "not for": found.about.not_for,
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    for what, text in rows.items():
        table.add_row(Text(what), Text(text))
    return table


RECIPES = Command("recipes", "list what can be made", _add_nothing, _recipes)
DATA = Command("data", "list the data sets, or fetch and show some", _add_data, _data)
