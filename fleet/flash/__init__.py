"""An image and what makes it a node's, onto a card: checked, read back, and bootable only when it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from fleet.errors import FleetError
from fleet.flash.bootfiles import require_tools
from fleet.flash.image import Image, opened
from fleet.flash.prepare import Load, Prepared, prepare
from fleet.flash.seed import FirstBoot
from fleet.flash.wifi import Wifi, wifi
from fleet.flash.writing import Written, staged_boot, write_card

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleet.flash.fat import FatVolume
    from fleet.flash.progress import Progress
    from fleet.flash.target import Target

__all__ = [
    "FirstBoot",
    "Flashed",
    "Image",
    "Load",
    "Prepared",
    "Wifi",
    "flash",
    "rehearse",
    "room_for",
    "wifi",
]


@dataclass(frozen=True, slots=True)
class Flashed:
    """What was put onto a card, and what the whole card holds now."""

    prepared: Prepared
    written: Written


def flash(
    path: Path, target: AbstractContextManager[Target], load: Load, progress: Progress, sha256: str | None = None
) -> Flashed:
    """Writes the image at `path` with a load; raises FleetError, and leaves then nothing that boots.

    `sha256` is what the image's file is said to have, as its publisher tells.
    """
    require_tools()
    found: list[Prepared] = []

    def put(stage: BinaryIO, volume: FatVolume) -> None:
        found.append(prepare(stage, volume, load))

    try:
        with opened(path) as image, target as into:
            written = write_card(image, into, put, progress, sha256)
    except OSError as exc:
        raise FleetError(f"{exc.filename or 'the card'}: {exc.strerror}") from exc
    return Flashed(found[0], written)


def room_for(path: Path) -> int:
    """How many bytes a card must have for the image at `path`; raises FleetError for what is none, or without tools."""
    require_tools()
    with opened(path) as image:
        # The first also raises where there is none.
        return max(image.table.boot.end, image.table.end)


def rehearse(path: Path, load: Load) -> Prepared:
    """Does it with an image's boot partition in a file of this machine."""
    require_tools()
    found: list[Prepared] = []
    with opened(path) as image:
        for _ in image.read(image.table.boot.start):
            pass
        with staged_boot(image, lambda stage, volume: found.append(prepare(stage, volume, load))):
            return found[0]
