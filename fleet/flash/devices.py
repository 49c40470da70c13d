"""Block devices of this machine: what one is, and why it should not be overwritten."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECTOR_BYTES: Final = 512
_LARGE_BYTES: Final = 256 * 10**9
_DEVICES: Final = Path("/dev")
# What makes a disk one of the system's; what is mounted elsewhere is somebody's all the same.
_SYSTEM_PLACES: Final = frozenset({"/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home", "swap"})


@dataclass(frozen=True, slots=True)
class Machine:
    """Where Linux tells of devices; tests have folders of their own."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")


@dataclass(frozen=True, slots=True)
class Device:
    """A block device; `used_as` says what of the system is on it, or where it is mounted.

    `number` is Linux's of the device, which another one may have later; `sequence` is another one for each that comes,
    and for each card in a reader, empty where Linux counts none.
    """

    path: Path
    number: int
    sequence: str
    name: str
    model: str
    size_bytes: int
    sector_bytes: int
    is_partition: bool
    is_removable: bool
    used_as: tuple[str, ...]

    @property
    def explained(self) -> str:
        """For the person who is asked for its name."""
        return f"{self.path} ({self.model or 'no model told'}, {self.size_bytes / 10**9:.1f} GB)"

    def refusals(self, *, force: bool) -> Iterator[str]:
        """Why it is not written to; some reasons give way to `force`."""
        if self.is_partition:
            yield "it is a partition; name the whole disk"
        for use in self.used_as:
            yield f"it is used: {use}"
        if self.sector_bytes != _SECTOR_BYTES:
            yield f"its sectors have {self.sector_bytes} bytes; images are made for {_SECTOR_BYTES}"
        if not self.size_bytes:
            yield "it has no size: is there a card in it?"
        if not force and not self.is_removable:
            yield "it is not removable; --force if you are sure"
        if not force and self.size_bytes > _LARGE_BYTES:
            yield f"it has {self.size_bytes / 10**9:.0f} GB, over {_LARGE_BYTES // 10**9}; --force if you are sure"


def is_block_device(path: Path) -> bool:
    """Whether there is a block device of that name."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def device_at(path: Path, machine: Machine) -> Device | None:
    """What the block device at `path` is, None where a file is meant; raises FleetError."""
    if is_block_device(path):
        return look_at(path, machine)
    # Somebody has misspelt a device, or pulled it: a file of its name would fill the memory that /dev lies in.
    if _DEVICES in path.resolve().parents:
        raise FleetError(f"{path}: there is no disk of that name: is the card in its reader?")
    return None


def look_at(path: Path, machine: Machine) -> Device:
    """What the block device at `path` is; raises FleetError where Linux does not tell."""
    try:
        return describe(path, path.stat().st_rdev, machine)
    except OSError as exc:
        raise FleetError(f"{path}: cannot be looked at: {exc.strerror}") from exc


def describe(path: Path, number: int, machine: Machine) -> Device:
    """What the block device of that number is."""
    folder = _folder(number, machine)
    disk = _whole(folder)
    return Device(
        path=path,
        number=number,
        sequence=_line(disk / "diskseq"),
        name=folder.name,
        model=" ".join(filter(None, (_line(disk / "device" / name) for name in ("vendor", "model", "name")))),
        size_bytes=int(_line(folder / "size") or 0) * _SECTOR_BYTES,
        sector_bytes=int(_line(disk / "queue" / "logical_block_size") or _SECTOR_BYTES),
        is_partition=folder != disk,
        is_removable=_is_removable(disk),
        used_as=tuple(sorted(set(_uses(disk, machine)))),
    )


def _folder(device: int, machine: Machine) -> Path:
    return (machine.sys / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}").resolve(strict=True)


def _whole(folder: Path) -> Path:
    return folder.parent if (folder / "partition").exists() else folder


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _is_removable(disk: Path) -> bool:
    # A card in a reader that is built in is not told to be removable, nor is many a USB disk.
    on_usb = any(part.startswith("usb") for part in disk.parts)
    return _line(disk / "removable") == "1" or on_usb or _line(disk / "device" / "type") == "SD"


def _uses(disk: Path, machine: Machine) -> Iterator[str]:
    for device, place in _mounted(machine):
        if disk in _disks_below(device, machine):
            yield f"the system runs from it ({place})" if place in _SYSTEM_PLACES else f"mounted at {place}"


def _mounted(machine: Machine) -> Iterator[tuple[int, str]]:
    """The devices behind what is mounted, and behind swap."""
    for line in (machine.proc / "self" / "mountinfo").read_text(errors="replace").splitlines():
        fields = line.split()
        major, _, minor = fields[2].partition(":")
        yield os.makedev(int(major), int(minor)), fields[4]
        # Some, as btrfs, tell a number that no device has, but name one.
        source = Path(fields[fields.index("-") + 2])
        if is_block_device(source):
            yield source.stat().st_rdev, fields[4]
    for line in (machine.proc / "swaps").read_text(errors="replace").splitlines()[1:]:
        swap = Path(line.split()[0])
        if swap.exists():
            yield (swap.stat().st_rdev if is_block_device(swap) else swap.stat().st_dev), "swap"


def _disks_below(device: int, machine: Machine) -> frozenset[Path]:
    """The disks that a device is a part of, or is made of by LVM, RAID or encryption."""
    try:
        waiting = [_folder(device, machine)]
    except OSError:
        return frozenset()  # a file system with no device, such as proc
    found: set[Path] = set()
    while waiting:
        folder = waiting.pop()
        if folder not in found:
            found |= {folder, _whole(folder)}
            waiting += [slave.resolve() for slave in (folder / "slaves").glob("*")]
    return frozenset(found)
