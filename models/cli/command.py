"""What a command is, and what the commands share. TensorFlow is imported by those alone that need it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from models.errors import UsageError
from models.options import DATA, REGISTRY, WORK, Options
from models.registry import Registry

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from models.recipe import Recipe

OK: Final = 0
FAILURE: Final = 1
WRONG_USE: Final = 2
_WIDE: Final = 200
# What numpy and TensorFlow take as a seed.
_MAX_SEED: Final = 2**32 - 1
# As a manifest has it; it is a directory's name too.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY_ENV: Final = "HEADWATER_FLEET_KEY"
_REGISTRY_ENV: Final = "HEADWATER_REGISTRY"


@dataclass(frozen=True, slots=True)
class Command:
    """A command: `run` returns the exit code, and may raise UsageError (2) or another ModelsError (1)."""

    name: str
    what: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def takes_options(parser: ArgumentParser) -> None:
    """The arguments of what is made of recipes, for `options_of`."""
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, and good for trying alone")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same weights (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that train (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="downloaded data (%(default)s)")
    takes_key(parser)
    takes_work(parser)


def takes_key(parser: ArgumentParser) -> None:
    """The argument --key."""
    parser.add_argument(
        "--key",
        type=Path,
        default=os.environ.get(_KEY_ENV) or None,
        metavar="FILE",
        help=f"the fleet's private key (Ed25519, PEM), by which packages are signed; without it ${_KEY_ENV}",
    )


def takes_work(parser: ArgumentParser) -> None:
    """The argument --work."""
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="what is being made (%(default)s)")


def takes_recipe(parser: ArgumentParser) -> None:
    """The argument RECIPE and what may differ from it, for `recipe_of`."""
    parser.add_argument("recipe", metavar="RECIPE", help="what to make; `python -m models recipes` lists them")
    takes_dataset(parser)


def takes_dataset(parser: ArgumentParser) -> None:
    """The arguments --dataset and --name, for `recipe_of`."""
    parser.add_argument(
        "--dataset", metavar="NAME", help="other data of the same columns; `python -m models data` lists what there is"
    )
    parser.add_argument("--name", metavar="NAME", help="what the model is called; without it as its recipe")


def takes_registry(parser: ArgumentParser) -> None:
    """The argument --registry, for `registry_of`."""
    default = os.environ.get(_REGISTRY_ENV, str(REGISTRY))
    parser.add_argument(
        "--registry",
        default=default,
        metavar="URL",
        help=f"a directory, or an object store as fsspec has it, such as s3://bucket/models; without it "
        f"${_REGISTRY_ENV} (%(default)s)",
    )


def options_of(args: Namespace) -> Options:
    """What `takes_options` took."""
    if args.jobs < 1:
        raise UsageError(f"--jobs: found {args.jobs}, allowed: 1 or more")
    if not 0 <= args.seed <= _MAX_SEED:
        raise UsageError(f"--seed: found {args.seed}, allowed: 0 to {_MAX_SEED}")
    return Options(
        console=console(),
        data=args.data,
        work=args.work,
        quick=args.quick,
        seed=args.seed,
        jobs=args.jobs,
        key=args.key,
    )


def registry_of(args: Namespace) -> Registry:
    """What `takes_registry` took."""
    return Registry(args.registry)


def recipe_of(args: Namespace) -> Recipe:
    """What `takes_recipe` took; raises UsageError for a recipe that there is not, and a name that none may have."""
    from models.recipe import quick  # noqa: PLC0415 - recipes are read by those alone that need them
    from models.recipes import RECIPES  # noqa: PLC0415 - as above

    if args.recipe not in RECIPES:
        raise UsageError(f"{args.recipe!r} is no recipe; there are {', '.join(RECIPES)}")
    if args.name is not None and not _NAME.fullmatch(args.name):
        raise UsageError(f"--name: found {args.name!r}, allowed: up to 64 letters, digits, and . _ - within")
    recipe = RECIPES[args.recipe]
    recipe = replace(recipe, dataset=args.dataset or recipe.dataset, name=args.name or recipe.name)
    return quick(recipe) if args.quick else recipe


def console() -> Console:
    """Where progress and tables go; a file or a pipe is as wide as a table wants."""
    return Console(width=None if sys.stdout.isatty() else _WIDE)
