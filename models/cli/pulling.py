"""`python -m models pull RECIPE GROUP/NODE/DEVICE`: data to train on, out of a running database."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from models.cli.command import OK, Command, options_of, recipe_of, takes_options
from models.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="for which: its inputs are what is read")
    parser.add_argument("place", metavar="GROUP/NODE/DEVICE", help="whose readings")
    parser.add_argument("--since", required=True, metavar="TIME", help="ISO 8601, such as 2026-03-01T00:00+01:00")
    parser.add_argument("--until", metavar="TIME", help="and before this; without it now")
    takes_options(parser)


def _pull(args: Namespace) -> int:
    from models.data.kept import keep  # noqa: PLC0415 - the database's client is wanted here alone
    from models.data.timescale import load_live  # noqa: PLC0415 - as above

    options = options_of(args)
    since = _time("--since", args.since)
    until = _time("--until", args.until) if args.until else dt.datetime.now(dt.UTC)
    args.dataset = args.name = None
    recipe = recipe_of(args)
    dataset = load_live(args.place, recipe.view, since, until, options)
    name = keep(dataset, options)
    rows = sum(len(table.steps.at_ms) for table in dataset.tables)
    options.console.print(f"{rows} steps of {len(dataset.tables)} series are put aside as")
    print(name)
    options.console.print(f"python -m models train {args.recipe} --dataset {name} --name YOUR-NAME", highlight=False)
    return OK


def _time(option: str, text: str) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"{option}: found {text!r}, allowed is ISO 8601, such as 2026-03-01T00:00+01:00") from exc
    return at if at.tzinfo else at.replace(tzinfo=dt.UTC)


PULL = Command("pull", "put readings of a running database (HEADWATER_DSN) aside to train on", _add_arguments, _pull)
