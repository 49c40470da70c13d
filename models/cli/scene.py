"""`python -m models scene [CAMERA]`: which cameras ask for a model of what they see, and making it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from contract.scene import SceneManifest
from models.cli.command import OK, Command, options_of, registry_of, takes_options, takes_registry
from models.cli.making import registered
from models.cli.tables import print_versions

if TYPE_CHECKING:
    import datetime as dt
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from rich.console import Console

    from models.registry import Registry
    from models.scene.database import Request


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "cameras", nargs="*", metavar="GROUP/NODE/DEVICE", help="make and register their models; none: list who asks"
    )
    parser.add_argument("--all", action="store_true", help="of all cameras that ask")
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="a camera's samples as JPEGs, instead of the database's"
    )
    takes_options(parser)
    takes_registry(parser)


def _scene(args: Namespace) -> int:
    from models.scene.database import requests  # noqa: PLC0415 - the database's client is wanted here alone
    from models.scene.stage import train_scene_stage  # noqa: PLC0415 - as above

    options, registry = options_of(args), registry_of(args)
    cameras = list(args.cameras)
    if args.all or not cameras:
        asked = requests(_newest(registry))
        if not args.all:
            _print_requests(options.console, asked)
            return OK
        cameras += [each.camera for each in asked if each.camera not in cameras]
    made = [registered(train_scene_stage(camera, options, args.dir), registry) for camera in cameras]
    print_versions(options.console, made)
    return OK


def _newest(registry: Registry) -> dict[str, dt.datetime]:
    """By camera when the last sample was taken that its newest model has learnt from."""
    cards = [each.card for name in registry.names() for each in registry.versions(name)]
    found: dict[str, dt.datetime] = {}
    for card in cards:
        if isinstance(card, SceneManifest) and card.training is not None:
            found[card.camera] = max(card.training.to_at, found.get(card.camera, card.training.to_at))
    return found


def _print_requests(console: Console, asked: Sequence[Request]) -> None:
    if not asked:
        console.print("No camera asks for a model that it has not got.")
        return
    table = Table("camera", "samples", "asked at", box=None, pad_edge=False)
    for each in asked:
        table.add_row(Text(each.camera), str(each.samples), f"{each.asked_at:%Y-%m-%d %H:%M} UTC")
    console.print(table)


SCENE = Command("scene", "list the cameras that ask for a model of their scene, or make some", _add_arguments, _scene)
