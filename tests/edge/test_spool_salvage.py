"""Spoilt spools: what can be read is delivered, what cannot is declared, and no wrong payload ever comes out."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.datatypes import DataType
from contract.delivery import GAP, Gap
from contract.sparkplug import Metric, Payload, decode, encode
from edge.batch import Batch, gap_batch
from edge.clock import boot_id
from edge.lane import Lane
from edge.spool import Spool, SpoolLimits, StoredBatch
from edge.spool.directory import open_spool
from edge.spool.file import FileLimits

if TYPE_CHECKING:
    from collections.abc import Callable

MADE_MS = 1_710_000_000_000
SET_ASIDE_MS = MADE_MS + 100_000_000
NAME = f"spool-{MADE_MS}.db"
DEVICES = ("plant", "gate")
LIMITS = SpoolLimits(max_bytes=1 << 26, buffer_bytes=1 << 20, commit_interval_s=0.02)


def a_batch(n: int, lane: Lane = Lane.LIVE, size_bytes: int = 700) -> Batch:
    at_ms = MADE_MS + n * 1000
    text = f"{lane.name} {n} ".ljust(size_bytes, chr(33 + n % 90))
    payload = encode(Payload(at_ms, (Metric("text", DataType.STRING, text, at_ms),)))
    return Batch(DEVICES[n % 2], payload, at_ms, at_ms + 10, lane)


def declare(device: str, gap: Gap) -> Batch:
    return gap_batch(device, gap, SET_ASIDE_MS)


def make_spool(directory: Path, *, clean: bool = True) -> list[Batch]:
    """A spool with some of everything in it; returns the batches that it holds."""
    file = open_spool(directory, FileLimits(1 << 26), MADE_MS, boot_id())
    kept: list[Batch] = []
    for first in range(0, 120, 6):
        batches = [a_batch(n, Lane(n % 4)) for n in range(first, first + 6)]
        file.append(batches, MADE_MS + first * 1000 + 6000, declare)
        kept += batches
    file.delete_through({Lane.LIVE: 5})
    lives = [batch for batch in kept if batch.lane is Lane.LIVE]
    if clean:
        file.close(clean=True)
    else:
        # As a kill leaves it: everything still in the log beside it.
        for suffix in ("", "-wal"):
            shutil.copy(f"{file.path}{suffix}", f"{file.path}.kept{suffix}")
        file.close(clean=True)
        for suffix in ("", "-wal"):
            Path(f"{file.path}.kept{suffix}").replace(f"{file.path}{suffix}")
    return [batch for batch in kept if batch not in lives[:5]]


def salvaged(directory: Path) -> tuple[list[StoredBatch], list[tuple[str, Gap]], Any]:
    """What is in the spool once nothing is left to be salvaged: batches, and declared gaps; and how it began."""

    async def scenario() -> tuple[list[StoredBatch], Any]:
        spool = Spool(directory, LIMITS, lambda: SET_ASIDE_MS, declare, devices=DEVICES)
        beginning = await spool.start()
        async with asyncio.timeout(30):
            while list(directory.glob("*.wrecked")):  # noqa: ASYNC110, ASYNC240 - it tells nobody; a directory of three files
                await asyncio.sleep(0.005)
        batches: list[StoredBatch] = []
        for _ in range(2):  # what is found garbled is declared behind the others
            batches = [batch for lane in Lane for batch in await spool.read_from(lane, 1, 10_000)]
        await spool.close(clean=True)
        return batches, beginning

    batches, beginning = asyncio.run(scenario())
    gaps = []
    readings = []
    for batch in batches:
        metric = decode(batch.payload).metrics[0]
        if metric.name == GAP:
            gaps.append((batch.device, Gap.from_metric(metric)))
        else:
            readings.append(batch)
    return readings, gaps, beginning


def check(kept: list[Batch], readings: list[StoredBatch], gaps: list[tuple[str, Gap]], beginning: Any) -> None:
    """Nothing that was not kept; nothing twice; and what is missing is declared, here or by the agent's next poll.

    Where the log is cut, the file is what it was at some moment before: nothing tells of what came later, and what had
    been forgotten since is there again.
    """
    found = [(batch.device, batch.payload, batch.from_ms, batch.to_ms) for batch in readings]
    known = {(batch.device, batch.payload, batch.from_ms, batch.to_ms) for batch in kept}
    forgotten = {(b.device, b.payload, b.from_ms, b.to_ms) for b in (a_batch(n) for n in range(1, 20, 4))}
    assert set(found) <= known | forgotten, "a payload that nobody put there"
    assert len(set(found)) == len(found), "twice"
    for device, payload, from_ms, to_ms in known - set(found):
        by_gap = any(d == device and g.from_ms <= from_ms and to_ms <= g.to_ms for d, g in gaps)
        by_agent = beginning.epoch == MADE_MS and beginning.last_sampled.get(device, 0) <= from_ms
        assert by_gap or by_agent, f"{decode(payload).metrics[0].value!r} is lost in silence"


def test_a_file_that_has_lost_one_table_gives_all_the_others(tmp_path: Path) -> None:
    kept = make_spool(tmp_path)
    db = sqlite3.connect(tmp_path / NAME)
    db.execute("drop table alarm")
    db.close()
    readings, gaps, beginning = salvaged(tmp_path)
    check(kept, readings, gaps, beginning)
    assert len(readings) == len([batch for batch in kept if batch.lane is not Lane.ALARM])
    assert {gap.reason for _, gap in gaps} == {"spool corrupt"}
    assert {gap.to_ms for _, gap in gaps} == {SET_ASIDE_MS}
    assert [path.name for path in tmp_path.glob("*.corrupt")] == [f"{NAME}.corrupt"], "kept, for a person to look at"


def test_a_file_of_which_all_can_be_read_is_called_so(tmp_path: Path) -> None:
    kept = make_spool(tmp_path)
    db = sqlite3.connect(tmp_path / NAME)
    db.execute("pragma user_version = 99")
    db.close()
    readings, gaps, beginning = salvaged(tmp_path)
    check(kept, readings, gaps, beginning)
    assert len(readings) == len(kept)
    # From the last reading that is there on: nobody knows how long that agent went on.
    assert sorted(gaps) == [
        ("gate", Gap(MADE_MS + 119_010, SET_ASIDE_MS, "spool corrupt")),
        ("plant", Gap(MADE_MS + 118_010, SET_ASIDE_MS, "spool corrupt")),
    ]
    assert (tmp_path / f"{NAME}.salvaged").exists()


def test_images_stay_images_and_the_rest_is_replayed(tmp_path: Path) -> None:
    make_spool(tmp_path)
    db = sqlite3.connect(tmp_path / NAME)
    db.execute("pragma user_version = 99")
    db.close()
    salvaged(tmp_path)
    file = open_spool(tmp_path, FileLimits(1 << 26), SET_ASIDE_MS)
    depths = {lane: extent.depth for lane, extent in file.extents().items()}
    assert depths == {Lane.ALARM: 0, Lane.LIVE: 2, Lane.BACKFILL: 85, Lane.IMAGE: 30}
    assert file.read_from(Lane.BACKFILL, 1, 1)[0].kept_ms == MADE_MS + 6000, "as old as it is"
    file.close(clean=True)


def test_a_kill_in_the_middle_of_a_salvage_costs_nothing_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make_spool(tmp_path)
    db = sqlite3.connect(tmp_path / NAME)
    db.execute("pragma user_version = 99")
    db.close()
    monkeypatch.setattr("edge.spool.salvage._STEP_BATCHES", 10)
    monkeypatch.setattr("edge.spool.chores._PAUSE_S", 30.0)

    async def scenario() -> None:
        spool = Spool(tmp_path, LIMITS, lambda: SET_ASIDE_MS, declare, devices=DEVICES)
        await spool.start()
        async with asyncio.timeout(10):
            while not (await spool.extents())[Lane.BACKFILL].depth:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
        await spool.close(clean=False)

    asyncio.run(scenario())
    asyncio.run(scenario())
    assert (tmp_path / f"{NAME}.wrecked").exists()
    monkeypatch.setattr("edge.spool.chores._PAUSE_S", 0.0)
    readings, gaps, beginning = salvaged(tmp_path)
    check(kept, readings, gaps, beginning)
    assert len(readings) == len(kept)


def test_set_aside_files_are_bounded_in_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(9):
        (tmp_path / f"spool-{MADE_MS + n * 10}.db").write_bytes(b"no database" * 100)
    _, gaps, _ = salvaged(tmp_path)
    assert len(list(tmp_path.glob("*.corrupt"))) == 3
    assert {device for device, gap in gaps if gap.from_ms == MADE_MS} == set(DEVICES)
    assert any("is deleted" in record.message for record in caplog.records)


def test_a_garbled_batch_is_replaced_by_a_gap_and_all_others_are_read(tmp_path: Path) -> None:
    kept = make_spool(tmp_path)
    content = (tmp_path / NAME).read_bytes()
    victim = kept[50]
    at = content.index(victim.payload[300:400])
    (tmp_path / NAME).write_bytes(content[:at] + b"~" + content[at + 1 :])
    readings, gaps, beginning = salvaged(tmp_path)
    check(kept, readings, gaps, beginning)
    assert len(readings) == len(kept) - 1
    assert not list(tmp_path.glob("*.wrecked")) + list(tmp_path.glob("*.corrupt")), "not worth a new file"
    assert {gap.reason for _, gap in gaps} == {"spool garbled"}
    assert gaps == [(victim.device, Gap(victim.from_ms, victim.to_ms, "spool garbled"))]


def spoilers() -> dict[str, Callable[[bytearray, random.Random], bytearray]]:
    def flip(content: bytearray, rng: random.Random) -> bytearray:
        for _ in range(rng.choice([1, 1, 3, 20])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return content

    def smear(content: bytearray, rng: random.Random) -> bytearray:
        at = rng.randrange(len(content))
        length = rng.choice([16, 512, 4096, 20_000])
        content[at : at + length] = rng.randbytes(len(content[at : at + length]))
        return content

    def zero(content: bytearray, rng: random.Random) -> bytearray:
        page = rng.randrange(len(content) // 4096 + 1) * 4096
        content[page : page + 4096] = bytes(len(content[page : page + 4096]))
        return content

    def swap(content: bytearray, rng: random.Random) -> bytearray:
        a, b = (rng.randrange(1, max(2, len(content) // 4096)) * 4096 for _ in range(2))
        content[a : a + 4096], content[b : b + 4096] = content[b : b + 4096], content[a : a + 4096]
        return content

    return {"flip": flip, "smear": smear, "zero": zero, "swap": swap}


@pytest.mark.parametrize("part", ["", "-wal"])
@pytest.mark.parametrize("spoiler", spoilers())
def test_whatever_is_spoilt_no_wrong_payload_comes_out_and_no_loss_is_silent(
    tmp_path: Path, spoiler: str, part: str
) -> None:
    kept = make_spool(tmp_path / "whole", clean=not part)
    rng = random.Random(f"{spoiler} {part}")
    for n in range(15):
        shutil.copytree(tmp_path / "whole", directory := tmp_path / str(n))
        path = directory / f"{NAME}{part}"
        path.write_bytes(spoilers()[spoiler](bytearray(path.read_bytes()), rng))
        check(kept, *salvaged(directory))


@pytest.mark.parametrize("part", ["", "-wal"])
def test_cut_anywhere_it_gives_what_is_left(tmp_path: Path, part: str) -> None:
    kept = make_spool(tmp_path / "whole", clean=not part)
    size_bytes = (tmp_path / "whole" / f"{NAME}{part}").stat().st_size
    for n, at in enumerate([*range(0, size_bytes, max(4096, size_bytes // 12 // 4096 * 4096)), 100, size_bytes - 1]):
        shutil.copytree(tmp_path / "whole", directory := tmp_path / str(n))
        with (directory / f"{NAME}{part}").open("r+b") as file:
            file.truncate(at)
        readings, gaps, beginning = salvaged(directory)
        check(kept, readings, gaps, beginning)
