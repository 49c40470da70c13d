"""Bundles made: archives for `fleet install` and `fleet flash`, Debian packages, updates."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING

from contract.archive import ArchiveError, pack
from fleet.bundle.deb import Tree, write_package
from fleet.bundle.stage import CHECKOUT, Source, device_file, lay_payload, lay_system, lay_version, put
from fleet.bundle.wheels import download, wanted
from fleet.errors import FleetError
from fleet.files import hand_over, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.bundle.node import NodeFiles
    from fleet.bundle.target import Target
    from fleet.bundle.wheels import Locked, Wheel


class BundleKind(StrEnum):
    """What it is made as, which is how its file's name ends."""

    DEB = "deb"
    TAR = "tar.gz"
    UPDATE = "update.tar.gz"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was made."""

    path: Path
    version: str
    size_bytes: int
    unpacked_bytes: int
    sha256: str
    wheels: tuple[Wheel, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be made."""

    kind: BundleKind
    target: Target
    # For one node: its name and files; none: for any.
    node: str | None = None
    files: NodeFiles | None = None
    # An update with its libraries, for devices that have others.
    whole: bool = False


def plan(target: Target, checkout: Path = CHECKOUT) -> tuple[Locked, ...]:
    """The libraries that a bundle for a target has; raises FleetError."""
    lock = checkout / "requirements" / target.lock
    try:
        return wanted(lock.read_text(encoding="utf-8"), target)
    except OSError as exc:
        raise FleetError(f"{lock}: {exc.strerror}; bundles are made in a checkout") from exc


def make_bundle(
    order: Order,
    out: Path,
    wheels: Path | None = None,
    checkout: Path = CHECKOUT,
    *,
    folder: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Makes a bundle as the file `out`, or under its own name in the directory `out`; raises FleetError.

    Its file is there whole or not at all, and its owner's alone: it may hold a token. Wheels come from the directory
    `wheels`, or by pip. It takes a minute or two: `told` hears of each step when it begins.
    """
    place = out if folder else out.parent
    try:
        make_folder(place)
        with tempfile.TemporaryDirectory(dir=place, prefix=".bundle-") as scratch:
            locked = plan(order.target, checkout)
            told(_fetching(order, len(locked)))
            found = download(locked, order.target, Path(scratch) / "wheels", wheels, told)
            told("packing them with the agent")
            source = Source.read(checkout, order.target, found)
            half = Path(scratch) / "bundle"
            with half.open("xb") as file:
                half.chmod(0o600)
                hand_over(file.fileno(), place)
                unpacked_bytes = _write(order, source, file, Path(scratch))
                file.flush()
                os.fsync(file.fileno())
            named = out / file_name(order, source.version) if folder else out
            half.replace(named)
    except (ArchiveError, OSError) as exc:
        raise FleetError(f"{out}: cannot be made: {exc}") from exc
    with named.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Bundle(named, source.version, named.stat().st_size, unpacked_bytes, digest, found)


def _fetching(order: Order, count: int) -> str:
    what = f"fetching {count} {'library' if count == 1 else 'libraries'} for {order.target.arch} with Python"
    # Devices know by it whether they have them.
    why = ", whose digest an update has" if order.kind is BundleKind.UPDATE and not order.whole else ""
    return f"{what} {order.target.python}{why}"


def file_name(order: Order, version: str) -> str:
    """What a bundle is called."""
    node = "" if order.node is None else f"-{order.node}"
    whole = "-whole" if order.whole else ""
    return f"headwater-{version}-{order.target.label}{node}{whole}.{order.kind}"


def first_boot_script() -> bytes:
    """What installs a bundle from a folder, such as a card's: `sh first-boot.sh [--no-start] FOLDER`."""
    return device_file("first-boot.sh")


def _write(order: Order, source: Source, file: IO[bytes], scratch: Path) -> int:
    stage = scratch / "stage"
    if order.kind is BundleKind.UPDATE:
        lay_version(source, stage, whole=order.whole)
        return pack(stage, file)
    lay_system(source, stage / "system")
    if order.files is not None:
        order.files.write(stage / "node")
    if order.kind is BundleKind.TAR:
        lay_payload(source, stage, order.node)
        put(stage / "install", device_file("install"), 0o755)
        return pack(stage, file)
    own = stage / "system/usr/lib/headwater"
    put(own / "kib", f"{lay_payload(source, scratch / 'payload', order.node)}\n".encode())
    put(own / "version", f"{source.version}\n".encode())
    with (own / "bundle.tar.gz").open("xb") as payload:
        unpacked_bytes = pack(scratch / "payload", payload)
    private = (Tree(stage / "node", "usr/lib/headwater/node", private=True),) if order.files is not None else ()
    trees = (Tree(stage / "system", "."), *private)
    return write_package(file, source.version, source.target, trees, unpacked_bytes, scratch)
