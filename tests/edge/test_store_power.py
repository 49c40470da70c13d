"""Power loss at every step: the spool's file, put together again as every write, sync and truncation leaves it.

One run is traced; then, for each moment of it, the disk is what was written until then (a kill), what was synced
until then (a power cut), or that and some of what was not, torn at sectors (a power cut on a disk that reorders).
Whatever had been acknowledged by that moment has to be there.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.sparkplug import decode
from edge.errors import SpoolError
from edge.spool.directory import open_spool
from edge.spool.file import FileLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

MADE_MS = 1_710_000_000_000
SECTOR = 512
ROOT = Path(__file__).parents[2]

# What a spool does to its file: keeping, forgetting, dating, numbers, new epochs, giving disk back.
WRITER = """
    import sys
    from pathlib import Path
    from contract.sparkplug import Metric, Payload, decode, encode
    from contract.datatypes import DataType
    from edge.batch import Batch, gap_batch
    from edge.lane import Lane
    from edge.spool import database
    from edge.spool.directory import open_spool
    from edge.spool.file import FileLimits

    database._VACUUM_FROM_PAGES = 12
    MADE_MS, BOOTED_MS = 1_710_000_000_000, 1_709_999_000_000

    def a_batch(lane, number, at_ms, size_bytes=1500):
        text = f"{lane.name} {number} ".ljust(size_bytes, "x")
        return Batch("plant", encode(Payload(at_ms, (Metric("m", DataType.STRING, text, at_ms),))), at_ms, at_ms, lane)

    def tell(*words):
        sys.stdout.write(" ".join(map(str, words)) + "\\n")
        sys.stdout.flush()

    def declare(device, gap):
        return gap_batch(device, gap, 1)

    file = open_spool(Path(sys.argv[1]), FileLimits(1 << 20), MADE_MS, "boot")
    file._database.sql.execute("pragma wal_autocheckpoint = 24")
    forgotten = 0
    for step in range(1, 25):
        booted_ms = BOOTED_MS if step > 6 else None
        lanes = (Lane.LIVE, Lane.ALARM, Lane.LIVE, Lane.IMAGE)
        batches, first = [], dict.fromkeys(Lane, 0)
        for lane in lanes:
            number = 1000 * step + len(batches)
            at_ms = MADE_MS + step * 1000 if booted_ms else 1_000_000 + step * 1000
            batches.append(a_batch(lane, number, at_ms, 12_000 if step == 15 else 1500))
        if step > 12:
            for batch in file.read_from(Lane.LIVE, forgotten + 1, 3):
                tell("FORGET", *decode(batch.payload).metrics[0].value.split()[:2])
            forgotten += 3
        file.append(batches, MADE_MS + step * 1000, declare, booted_ms=booted_ms,
                    forget={Lane.LIVE: forgotten} if step > 12 else None)
        for batch, lane in zip(batches, lanes):
            tell("KEPT", lane.name, 1000 * step + batches.index(batch))
        if booted_ms:
            while file.undated:
                file.date_some(booted_ms, MADE_MS, declare)
        if step == 10:
            tell("BDSEQ", file.next_bd_seq())
        if step == 18:
            file.renew(MADE_MS + 500_000)
    file.close(clean=True)
    tell("CLOSED")
"""


@dataclass
class File:
    """One file: what is in it, what of it is on the disk, and what was done to it since."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def do(self, at: int, data: bytes | None) -> None:
        self.pending.append((at, data))
        apply(self.content, at, data)

    def sync(self) -> None:
        self.durable = bytes(self.content)
        self.pending.clear()


def apply(content: bytearray, at: int, data: bytes | None) -> None:
    """Writes data, or, where there is none, cuts or stretches to a length."""
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
        return
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


@dataclass
class Disk:
    """What the trace has done so far, and what was acknowledged meanwhile."""

    files: dict[str, File] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    is_closed: bool = False

    def say(self, line: str) -> None:
        match line.split():
            case ["KEPT", lane, number]:
                self.kept.append(f"{lane} {number}")
            case ["FORGET", lane, number]:
                # By the commit that is under way, or by none.
                self.forgotten.add(f"{lane} {number}")
            case ["CLOSED"]:
                self.is_closed = True

    def lay(self, directory: Path, how: str, rng: random.Random) -> None:
        """Writes out what is left after a kill, a power cut, or one on a disk that reorders."""
        for name, file in self.files.items():
            content = bytearray(file.content if how == "kill" else file.durable)
            if how == "reordered":
                for at, data in file.pending:
                    if data is None:
                        if rng.random() < 0.5:
                            apply(content, at, None)
                        continue
                    for start in range(0, len(data), SECTOR):
                        if rng.random() < 0.5:
                            apply(content, at + start, data[start : start + SECTOR])
            (directory / name).write_bytes(content)


CALL = re.compile(r"\d+ +(\w+)\((.*)\) = (-?\d+)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def play(line: str, disk: Disk) -> bool:
    """Does to the disk what a line of the trace says; whether it was a step."""
    found = CALL.fullmatch(line)
    if found is None or int(found[3]) < 0:
        return False
    call, given = found[1], found[2]
    if call == "rename":
        old, new = (Path(unescaped(text).decode()).name for text in TEXT.findall(given))
        disk.files[new] = disk.files.pop(old)
        return True
    if call == "unlink":
        return disk.files.pop(Path(unescaped(TEXT.findall(given)[0]).decode()).name, None) is not None
    name = Path(unescaped(given[given.index("<") + 1 : given.index(">")]).decode()).name
    if call == "write":
        for said in unescaped(TEXT.findall(given)[0]).decode().splitlines():
            disk.say(said)
        return False
    if not name.startswith("spool-") or name.endswith("-shm"):
        return False
    file = disk.files.setdefault(name, File())
    match call:
        case "pwrite64":
            file.do(int(given.rsplit(", ", 1)[1]), unescaped(TEXT.findall(given)[0]))
        case "ftruncate":
            file.do(int(given.rsplit(", ", 1)[1]), None)
        case "fsync" | "fdatasync":
            file.sync()
    return True


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    strace = shutil.which("strace")
    assert strace, "this test needs strace (Debian: apt-get install strace)"
    directory = tmp_path_factory.mktemp("traced")
    calls = "trace=pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename"
    tracer = [strace, "-f", "-y", "-xx", "-s", "1000000", "-e", calls, "-o", str(directory / "trace")]
    subprocess.run(
        [*tracer, sys.executable, "-c", textwrap.dedent(WRITER), str(directory / "spool")],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
    )
    return (directory / "trace").read_text(encoding="ascii").splitlines()


def found_in(directory: Path) -> list[str]:
    """What a spool gives, of all lanes and of what is not dated yet; its numbers have to be without holes."""
    file = open_spool(directory, FileLimits(1 << 24), MADE_MS + 900_000, "boot")
    while file.undated:
        file.date_some(MADE_MS - 1_000_000, MADE_MS, lambda _device, _gap: pytest.fail("nothing is estimated"))
    found = []
    for lane, extent in file.extents().items():
        batches = file.read_from(lane, extent.oldest, 10_000)
        assert [batch.batch_no for batch in batches] == list(range(extent.oldest, extent.next_no))
        found += [str(decode(batch.payload).metrics[0].value).strip("x ") for batch in batches]
    file.close(clean=False)
    return found


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: a disk takes its time for each of thousands of syncs."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as name:
        yield Path(name)


@pytest.mark.parametrize("how", ["kill", "power cut", "reordered"])
def test_what_was_acknowledged_is_there_whenever_it_ends(trace: list[str], memory_path: Path, how: str) -> None:
    disk, rng, steps = Disk(), random.Random(how), 0
    for line in trace:
        if not play(line, disk):
            continue
        steps += 1
        directory = memory_path / str(steps)
        directory.mkdir()
        disk.lay(directory, how, rng)
        try:
            found = found_in(directory)
        except SpoolError as exc:
            pytest.fail(f"step {steps}: {exc}")
        assert set(disk.kept) - disk.forgotten <= set(found), f"step {steps}: lost"
        assert len(set(found)) == len(found), f"step {steps}: twice"
        if disk.kept:
            assert not list(directory.glob("*.wrecked")), f"step {steps}: spoilt"
        shutil.rmtree(directory)
    assert disk.is_closed
    assert steps > 500
