"""Images of cards, made as Raspberry Pi OS makes its own, only smaller."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.flash import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SECTOR = 512
CMDLINE = b"console=serial0,115200 root=PARTUUID=0badf00d-02 rootwait\n"


@dataclass(frozen=True)
class Spec:
    """What an image is like; the rest of the card is noise, by `seed`."""

    bits: int = 16
    gpt: bool = False
    first_sector: int = 2048
    root_bytes: int = 64 * SECTOR
    files: Mapping[str, bytes] = field(default_factory=lambda: {"cmdline.txt": CMDLINE})
    folders: tuple[str, ...] = ()
    seed: int = 1

    @property
    def boot_sectors(self) -> int:
        """As few as the kind of FAT takes, with clusters of one sector."""
        return {16: 9 << 10, 32: 69 << 10}[self.bits]


@dataclass(frozen=True)
class CardImage:
    path: Path
    boot_start: int
    boot_end: int

    def boot(self) -> bytes:
        return self.path.read_bytes()[self.boot_start : self.boot_end]


def run(*command: object, text: bytes = b"") -> bytes:
    done = subprocess.run(
        [str(word) for word in command],
        input=text,
        capture_output=True,
        check=False,
        env=os.environ | {"MTOOLS_SKIP_CHECK": "1"},
    )
    assert not done.returncode, (command, done.stderr)
    return done.stdout


def build(spec: Spec, path: Path) -> CardImage:
    root_at = spec.first_sector + spec.boot_sectors
    sectors = root_at + spec.root_bytes // SECTOR + 34
    noise = random.Random(spec.seed)
    with path.open("wb") as file:
        file.truncate(sectors * SECTOR)
        file.seek(root_at * SECTOR)
        file.write(noise.randbytes(spec.root_bytes))
    types = ("U", "L") if spec.gpt else ("c" if spec.bits == 32 else "e", "83")
    table = "label: gpt\nfirst-lba: 34\ngrain: 512\n" if spec.gpt else "label: dos\ngrain: 512\n"
    table += f"start={spec.first_sector}, size={spec.boot_sectors}, type={types[0]}\n"
    table += f"start={root_at}, size={spec.root_bytes // SECTOR}, type={types[1]}\n"
    run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, text=table.encode())
    run(
        "mkfs.vfat", "-F", spec.bits, "-s", 1, "-S", SECTOR, "--offset", spec.first_sector, path, spec.boot_sectors // 2
    )
    volume = f"{path}@@{spec.first_sector * SECTOR}"
    run("mmd", "-i", volume, *(f"::{name}" for name in ("overlays", *spec.folders)))
    for name, content in spec.files.items():
        run("mcopy", "-i", volume, "-", f"::{name}", text=content)
    return CardImage(path, spec.first_sector * SECTOR, root_at * SECTOR)


class Volume:
    """The boot partition of an image, looked at by other programs than ours."""

    def __init__(self, content: bytes, path: Path) -> None:
        self.content = content
        self._path = path
        path.write_bytes(content)

    def complaints(self) -> str:
        """What fsck says of it; nothing where it is clean."""
        done = subprocess.run(["fsck.vfat", "-n", self._path], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr if done.returncode else ""

    def names(self) -> set[str]:
        listing = run("mdir", "-/", "-a", "-b", "-i", self._path, "::").decode()
        return {line.removeprefix("::/") for line in listing.splitlines()}

    def read(self, name: str) -> bytes:
        return run("mcopy", "-i", self._path, f"::{name}", "-")

    def clusters(self, name: str) -> set[int]:
        """Those of a file, as mtools finds them."""
        shown = run("mshowfat", "-i", self._path, f"::{name}").decode()
        spans = [span.split("-") for span in re.findall(r"<([\d-]+)>", shown)]
        return {number for span in spans for number in range(int(span[0]), int(span[-1]) + 1)}

    def cluster(self, number: int) -> bytes:
        at = self._data_at() + (number - 2) * SECTOR
        return self.content[at : at + SECTOR]

    def kept(self, changed: set[str]) -> dict[int, bytes]:
        """The clusters in use that no change of these files, or of the root folder, has a reason to touch."""
        entries = self._entries()
        root: set[int] = set()
        number = 2 if self._is_fat32 else 0
        while 2 <= number < len(entries):
            root.add(number)
            number = entries[number]
        touched = root.union(*(self.clusters(name) for name in changed & self.names()))
        return {
            number: self.cluster(number)
            for number in range(2, len(entries))
            if entries[number] and number not in touched
        }

    @property
    def _is_fat32(self) -> bool:
        return self.content[82:87] == b"FAT32"

    def _number(self, at: int, width: int) -> int:
        return int.from_bytes(self.content[at : at + width], "little")

    def _table(self) -> tuple[int, int]:
        """Where the first one is, and how long each of both."""
        sectors = self._number(36, 4) if self._is_fat32 else self._number(22, 2)
        return self._number(14, 2) * SECTOR, sectors * SECTOR

    def _data_at(self) -> int:
        at, length = self._table()
        return at + 2 * length + self._number(17, 2) * 32

    def _entries(self) -> list[int]:
        width = 4 if self._is_fat32 else 2
        at, _ = self._table()
        count = (len(self.content) - self._data_at()) // SECTOR + 2
        return [self._number(at + each * width, width) & 0x0FFF_FFFF for each in range(count)]


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    for tool in ("mcopy", "sfdisk", "mkfs.vfat", "fsck.vfat"):
        assert shutil.which(tool), f"{tool} is missing: `make setup` installs it"


@pytest.fixture(scope="session")
def card_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what is made anew for each example."""
    return tmp_path_factory.mktemp("cards")


@pytest.fixture(scope="session")
def make_card(card_folder: Path) -> Callable[..., CardImage]:
    """Makes an image of `Spec`'s fields; the next one takes its place."""
    return lambda **fields: build(Spec(**fields), card_folder / "card.img")


@pytest.fixture(scope="session")
def look_into(card_folder: Path) -> Callable[[bytes], Volume]:
    return lambda content: Volume(content, card_folder / "volume.img")


@pytest.fixture(scope="session")
def load(card_folder: Path) -> Load:
    """What is put onto a card, but for the agent itself."""
    bundle = card_folder / "headwater-agent.deb"
    bundle.write_bytes(random.Random(7).randbytes(300_001))
    files = {
        "first-boot.sh": b"#!/bin/sh\nexit 0\n",
        "enrol.json": b'{"token": "secret"}\n',
        "edge.yaml": b"node: pi-007\n",
    }
    return Load("pi-007", bundle, files)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A block device of 16 MB that this machine really has."""
    if os.geteuid() or not Path("/dev/loop-control").exists() or shutil.which("losetup") is None:
        pytest.skip("loop devices need root, and a kernel that has them")
    backing = tmp_path / "backing"
    with backing.open("wb") as file:
        file.truncate(16 << 20)
    done = subprocess.run(["losetup", "-f", "--show", backing], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device is to be had: {done.stderr}")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
