"""`python -m models list|compare|promote`: what the registry has, and which stage each version is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from models.cli.command import OK, Command, console, registry_of, takes_registry
from models.cli.tables import as_json, print_versions, skill_line
from models.errors import RegistryError
from models.registry import Stage

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from models.registry import Registered


def _add_list(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="MODEL", help="which models; none: all")
    parser.add_argument("--json", action="store_true", help="as JSON, with the whole manifests")
    takes_registry(parser)


def _list(args: Namespace) -> int:
    registry = registry_of(args)
    versions = [each for name in args.names or registry.names() for each in registry.versions(name)]
    if args.json:
        print(as_json(versions))
    elif versions:
        print_versions(console(), versions)
    else:
        print(f"{registry.url}: there is no {', '.join(args.names) or 'model'} yet: make models")
    return OK


def _add_promote(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name of the model")
    parser.add_argument("version", metavar="VERSION", help="its version, or the stage that it is in")
    parser.add_argument("stage", type=Stage, choices=list(Stage), help="where to; canary and live retire who was there")
    parser.add_argument("--why", default="", metavar="TEXT", help="kept with the move")
    takes_anyway(parser)
    takes_registry(parser)


def takes_anyway(parser: ArgumentParser) -> None:
    """The argument --anyway, for `check_skill`."""
    parser.add_argument("--anyway", action="store_true", help="although no skill was shown for it")


def check_skill(each: Registered, *, anyway: bool) -> None:
    """Raises RegistryError for a model that was not shown to be of use, unless it is wanted anyway."""
    card = each.card
    if card.has_skill or anyway:
        return
    found = ", ".join(map(skill_line, card.skill)) or "it was never evaluated"
    raise RegistryError(f"{card.name} {card.version} has shown no skill: {found}. To use it all the same: --anyway")


def _promote(args: Namespace) -> int:
    registry = registry_of(args)
    found = registry.find(args.model, args.version)
    if args.stage in {Stage.CANARY, Stage.LIVE}:
        check_skill(found, anyway=args.anyway)
    registry.promote(args.model, found.card.version, args.stage, args.why)
    print_versions(console(), registry.versions(args.model))
    return OK


def _add_compare(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name of the model")
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="versions or stages, such as live candidate")
    takes_registry(parser)


def _compare(args: Namespace) -> int:
    registry = registry_of(args)
    found = [registry.find(args.model, wanted) for wanted in args.versions]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for each in found:
        table.add_column(Text(f"{each.card.version} ({each.stage})"))
    for name, cells in _comparison(found).items():
        table.add_row(Text(name), *map(Text, cells))
    console().print(table)
    if len({each.card.training.sha256 for each in found if each.card.training}) > 1:
        print("They were trained and judged on different data: their figures do not tell which is better.")
    return OK


def _comparison(found: list[Registered]) -> dict[str, list[str]]:
    """Rows by what they tell, a cell for each version."""
    cards = [each.card for each in found]
    trainings = [card.training for card in cards]
    rows = {
        "trained on": ["" if each is None else each.source for each in trainings],
        "from": ["" if each is None else f"{each.from_at:%Y-%m-%d %H:%M}" for each in trainings],
        "to": ["" if each is None else f"{each.to_at:%Y-%m-%d %H:%M}" for each in trainings],
        "windows": ["" if each is None else str(each.windows) for each in trainings],
    }
    for key in dict.fromkeys(
        f"{skill.of}, {skill.measure} against {skill.against}" for card in cards for skill in card.skill
    ):
        lines = [
            {f"{each.of}, {each.measure} against {each.against}": skill_line(each) for each in card.skill}
            for card in cards
        ]
        rows[key] = [line.get(key, "") for line in lines]
    for metric in dict.fromkeys(metric for card in cards for metric in card.metrics):
        rows[metric] = [f"{card.metrics[metric]:.4g}" if metric in card.metrics else "" for card in cards]
    for form in dict.fromkeys(file.form for card in cards for file in card.tflite_files):
        sizes = [{file.form: f"{file.size_bytes / 1024:.1f} KiB" for file in card.tflite_files} for card in cards]
        rows[form] = [size.get(form, "") for size in sizes]
    return rows


LIST = Command("list", "list the registered models, their stages and their skill", _add_list, _list)
COMPARE = Command("compare", "show versions of a model side by side", _add_compare, _compare)
PROMOTE = Command("promote", "put a version into another stage", _add_promote, _promote)
