"""`python -m models train|evaluate|quantize|register RECIPE`, and `make`, which does all of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from models.cli.command import (
    OK,
    Command,
    options_of,
    recipe_of,
    registry_of,
    takes_options,
    takes_recipe,
    takes_registry,
)
from models.cli.tables import print_versions
from models.errors import UsageError
from models.options import EVIDENCE, PACKAGE

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from pathlib import Path

    from models.options import Options
    from models.recipe import Recipe
    from models.registry import Registered, Registry


def _train(recipe: Recipe, options: Options) -> None:
    from models.training.stage import train  # noqa: PLC0415 - TensorFlow takes seconds to import

    train(recipe, options)


def _evaluate(recipe: Recipe, options: Options) -> None:
    from models.evaluation.stage import evaluate  # noqa: PLC0415 - TensorFlow takes seconds to import

    evaluate(recipe, options)


def _quantize(recipe: Recipe, options: Options) -> None:
    from models.quantization.stage import quantize  # noqa: PLC0415 - TensorFlow takes seconds to import

    _check_key(options)
    quantize(recipe, options)


def _check_key(options: Options) -> None:
    """Raises SignatureError before the minutes that it takes to make what would be signed."""
    from models.signing import private_key  # noqa: PLC0415 - who signs nothing needs no cryptography

    if options.key is not None:
        private_key(options.key)


def registered(place: Path, registry: Registry) -> Registered:
    """The package of a working directory, in the registry from now on; raises ModelsError."""
    if not (place / PACKAGE).is_dir():
        raise UsageError(f"{place}: there is no package yet: python -m models quantize {place.name}")
    return registry.register(place / PACKAGE, [place / name for name in EVIDENCE if (place / name).is_file()])


def _add_recipe(parser: ArgumentParser) -> None:
    takes_recipe(parser)
    takes_options(parser)


def _add_register(parser: ArgumentParser) -> None:
    _add_recipe(parser)
    takes_registry(parser)


def _stage(stage: Callable[[Recipe, Options], None]) -> Callable[[Namespace], int]:
    def run(args: Namespace) -> int:
        stage(recipe_of(args), options_of(args))
        return OK

    return run


def _run_register(args: Namespace) -> int:
    options = options_of(args)
    print_versions(options.console, [registered(options.work / recipe_of(args).name, registry_of(args))])
    return OK


def _add_make(parser: ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="which; none: all")
    takes_options(parser)
    takes_registry(parser)


def _make(args: Namespace) -> int:
    from models.recipes import RECIPES  # noqa: PLC0415 - read by those alone that need them
    from models.scene.stage import GATE  # noqa: PLC0415 - as above

    options, registry = options_of(args), registry_of(args)
    args.dataset = args.name = None
    if unknown := [name for name in args.recipes if name not in {*RECIPES, GATE}]:
        raise UsageError(f"{', '.join(unknown)}: no recipe; there are {', '.join((*RECIPES, GATE))}")
    _check_key(options)
    made = []
    for name in args.recipes or (*RECIPES, GATE):
        args.recipe = name
        began_s = time.monotonic()
        options.console.rule(name)
        made.append(registered(_made(args, options), registry))
        options.console.print(f"{name}: made in {time.monotonic() - began_s:.0f} s")
    print_versions(options.console, made)
    return OK


def _made(args: Namespace, options: Options) -> Path:
    """Where all of a recipe lies once it was made."""
    from models.scene.stage import GATE, make_scene_gate  # noqa: PLC0415 - as above

    if args.recipe == GATE:
        return make_scene_gate(options)
    recipe = recipe_of(args)
    for stage in (_train, _evaluate, _quantize):
        stage(recipe, options)
    return options.work / recipe.name


TRAIN = Command("train", "train a recipe's model on all its data but the newest", _add_recipe, _stage(_train))
EVALUATE = Command(
    "evaluate",
    "judge a recipe by models trained on what was before, and write report.html",
    _add_recipe,
    _stage(_evaluate),
)
QUANTIZE = Command("quantize", "convert the trained model for devices, and measure it", _add_recipe, _stage(_quantize))
REGISTER = Command("register", "put the package into the registry, as a candidate", _add_register, _run_register)
MAKE = Command("make", "train, evaluate, quantize and register recipes", _add_make, _make)
