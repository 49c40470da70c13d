"""Puts onto a boot partition what makes it a node's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError
from fleet.flash.bootfiles import BootFiles
from fleet.flash.seed import CMDLINE, FOLDER, FirstBoot, own_files, seed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from fleet.flash.fat import FatVolume
    from fleet.flash.wifi import Wifi

_MAX_CMDLINE_BYTES: Final = 4096
# For the folders' own growth, and for what a first boot writes there.
_SPARE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """What goes onto a card for a node; `files` lie in the card's own folder, are small and may be secret."""

    node: str
    bundle: Path
    files: Mapping[str, bytes] = field(repr=False)
    wifi: Wifi | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was put there; paths from the boot partition's root."""

    first_boot: FirstBoot
    paths: tuple[str, ...]


def prepare(stage: BinaryIO, volume: FatVolume, load: Load) -> Prepared:
    """Puts a load into the file system in `stage`; raises FleetError where it has no place or no use there."""
    boot = BootFiles(stage)
    names = boot.names()
    first_boot = FirstBoot.of(names)
    cmdline = boot.read(CMDLINE, _MAX_CMDLINE_BYTES).decode("latin-1") if CMDLINE in names else ""
    files = {
        f"{FOLDER}/{name}": content for name, content in {**own_files(first_boot, load.wifi), **load.files}.items()
    }
    files |= seed(first_boot, load.node, load.wifi, cmdline)
    try:
        with load.bundle.open("rb") as bundle:
            sizes = [load.bundle.stat().st_size, *map(len, files.values())]
            _check_room(volume, sizes)
            _make_folders(boot, files)
            boot.write(f"{FOLDER}/{load.bundle.name}", bundle)
    except OSError as exc:
        raise FleetError(f"{load.bundle}: cannot be read: {exc.strerror}") from exc
    for path, content in files.items():
        boot.write(path, content)
    return Prepared(first_boot, (f"{FOLDER}/{load.bundle.name}", *files))


def _make_folders(boot: BootFiles, paths: Iterable[str]) -> None:
    boot.remove_folder(FOLDER)
    for folder in sorted({parent for path in paths for parent in PurePosixPath(path).parents} - {PurePosixPath()}):
        boot.make_folder(str(folder))


def _check_room(volume: FatVolume, sizes: list[int]) -> None:
    needed = sum(-(-size // volume.cluster_bytes) * volume.cluster_bytes for size in sizes) + _SPARE_BYTES
    if needed > volume.free_bytes:
        raise FleetError(
            f"the image's boot partition has {volume.free_bytes >> 20} MiB left, and {-(-needed >> 20)} MiB are needed"
        )
