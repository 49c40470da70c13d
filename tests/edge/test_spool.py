"""The spool's thread: commits in groups, holds readings while the disk fails, begins anew when its file is spoilt."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.delivery import GAP, BatchId, Gap
from contract.sparkplug import decode
from edge.batch import Batch, gap_batch
from edge.errors import SpoolError
from edge.lane import Lane
from edge.spool import Extent, Spool, SpoolLimits, StoredBatch
from edge.spool.file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Callable


def a_batch(n: int, size_bytes: int = 10) -> Batch:
    return Batch("plant", n.to_bytes(8, "big") + bytes(size_bytes), n, n)


def a_spool(directory: Path, on_commit: Callable[[], object] = lambda: None, **limits: Any) -> Spool:
    given = {"max_bytes": 1 << 26, "buffer_bytes": 1 << 20, "commit_interval_s": 0.02} | limits
    clock = lambda: 1000  # noqa: E731 - a clock that stands
    return Spool(directory, SpoolLimits(**given), clock, lambda device, gap: gap_batch(device, gap, 1), on_commit)


async def live(spool: Spool) -> Extent:
    return (await spool.extents())[Lane.LIVE]


async def committed(spool: Spool, count: int, lane: Lane = Lane.LIVE) -> list[StoredBatch]:
    """What is in a lane, once there is so much in it."""
    async with asyncio.timeout(20):
        while True:
            # The first to read what is spoilt hears of it.
            with contextlib.suppress(SpoolError):
                if len(batches := await spool.read_from(lane, 1, 1000)) >= count:
                    return batches
            await asyncio.sleep(0.02)


def limit_pages(spool: Spool, pages: int) -> asyncio.Future[None]:
    """A disk of so many pages: SQLite then says SQLITE_FULL as it does on a real one."""
    return asyncio.ensure_future(
        spool._call(lambda file: file._database.sql.execute(f"pragma max_page_count = {pages}").close())
    )


def test_what_arrives_together_is_committed_together(tmp_path: Path) -> None:
    commits: list[float] = []

    async def scenario() -> None:
        spool = a_spool(tmp_path, lambda: commits.append(time.monotonic()), commit_interval_s=0.2)
        await spool.start()
        for n in range(100):
            spool.put(a_batch(n))
        assert (await live(spool)).depth == 0, "not before the interval is over"
        await spool.flush()
        assert (await live(spool)).depth == 100
        assert [b.batch_no for b in await spool.read_from(Lane.LIVE, 1, 1000)] == list(range(1, 101))
        await spool.close(clean=True)

    asyncio.run(scenario())
    assert len(commits) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "spool"]


def test_a_batch_is_committed_without_being_asked_for(tmp_path: Path, eventually: Any) -> None:
    async def scenario() -> None:
        committed = asyncio.Event()
        spool = a_spool(tmp_path, committed.set)
        await spool.start()
        spool.put(a_batch(1))
        await eventually(committed.is_set, "the commit")
        assert (await live(spool)).depth == 1
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_closing_commits_what_is_pending_and_notes_a_clean_stop(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path, commit_interval_s=10)
        assert not (await spool.start()).stopped_cleanly
        spool.put(a_batch(7))
        await spool.close(clean=True)
        with pytest.raises(SpoolError, match="closed"):
            await live(spool)
        again = a_spool(tmp_path)
        beginning = await again.start()
        assert (beginning.stopped_cleanly, beginning.last_sampled) == (True, {"plant": 7})
        assert (await live(again)).depth == 1
        await again.close(clean=True)

    asyncio.run(scenario())


def test_while_the_disk_is_full_readings_wait_in_memory_and_nothing_is_lost(
    tmp_path: Path, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path)
        await spool.start()
        await limit_pages(spool, 10)
        for n in range(1, 51):
            spool.put(a_batch(n, 2000))
            await spool.flush()
        assert spool.buffered > 0
        await limit_pages(spool, 100_000)
        await eventually(lambda: spool.buffered == 0, "the disk works again")
        batches = await spool.read_from(Lane.LIVE, 1, 1000)
        assert [int.from_bytes(b.payload[:8], "big") for b in batches] == list(range(1, 51))
        assert spool.dropped_batches == 0
        await spool.close(clean=True)

    asyncio.run(scenario())
    assert len([r for r in caplog.records if "full" in r.message]) == 1, "told once"


def test_what_does_not_fit_in_memory_either_is_dropped_counted_and_declared(tmp_path: Path, eventually: Any) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path, buffer_bytes=65_536)
        await spool.start()
        await limit_pages(spool, 8)
        for n in range(1, 101):
            spool.put(a_batch(n, 4000))
        await spool.flush()
        assert spool.dropped_batches > 50
        await limit_pages(spool, 100_000)
        await eventually(lambda: spool.buffered == 0, "the disk works again")
        gap_first, *rest = await spool.read_from(Lane.LIVE, 1, 1000)
        (metric,) = decode(gap_first.payload).metrics
        gap = Gap.from_metric(metric)
        kept = [int.from_bytes(b.payload[:8], "big") for b in rest]
        assert metric.name == GAP
        assert (gap.from_ms, gap.to_ms) == (1, spool.dropped_batches)
        assert kept == list(range(spool.dropped_batches + 1, 101))
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_a_file_that_spoils_while_in_use_is_replaced_and_the_loss_declared(tmp_path: Path, eventually: Any) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path)
        epoch = (await spool.start()).epoch
        spool.put(a_batch(1))
        await spool.flush()

        def spoil(_file: object) -> None:
            db = sqlite3.connect(tmp_path / f"spool-{epoch}.db")
            db.execute("drop table live")
            db.close()

        await spool._call(spoil)
        spool.put(a_batch(2))
        with pytest.raises(SpoolError):
            await live(spool)
        await spool.flush()
        await eventually(lambda: spool.buffered == 0, "the new file")
        extent = await live(spool)
        assert extent.epoch > epoch
        reading, gap = await committed(spool, 2)
        assert int.from_bytes(reading.payload[:8], "big") == 2
        assert decode(gap.payload).metrics[0].value == "spool corrupt"
        await spool.close(clean=True)

    asyncio.run(scenario())


def spoil(spool: Spool, path: Path) -> asyncio.Future[None]:
    def drop(_file: object) -> None:
        db = sqlite3.connect(path)
        db.execute("drop table live")
        db.close()

    return asyncio.ensure_future(spool._call(drop))


def test_what_is_declared_of_a_spoilt_file_begins_with_what_it_still_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path)
        epoch = (await spool.start()).epoch
        spool.put(a_batch(500))
        await spool.flush()
        spool.forget(BatchId(epoch, 1))
        for n in (700, 800):
            spool.put(a_batch(n))
            await spool.flush()
        await spoil(spool, tmp_path / f"spool-{epoch}.db")
        with pytest.raises(SpoolError):
            await live(spool)
        (gap,) = await committed(spool, 1)
        assert Gap.from_metric(decode(gap.payload).metrics[0]) == Gap(700, 1000, "spool corrupt")
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_a_spoilt_file_that_cannot_be_set_aside_at_first_is_so_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path)
        epoch = (await spool.start()).epoch
        spool.put(a_batch(1))
        await spool.flush()
        await spoil(spool, tmp_path / f"spool-{epoch}.db")
        renames: list[Path] = []

        def rename(path: Path, target: Path, true_rename: Any = Path.rename) -> Path:
            renames.append(path)
            if len(renames) == 1:
                raise PermissionError(13, "Permission denied")
            moved: Path = true_rename(path, target)
            return moved

        monkeypatch.setattr(Path, "rename", rename)
        with contextlib.suppress(SpoolError):
            await live(spool)
        async with asyncio.timeout(10):
            assert (await live(spool)).epoch > epoch
        assert len(renames) > 1, "tried again"
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_a_fault_that_nobody_foresaw_costs_neither_the_batches_nor_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path)
        await spool.start()

        def broken(*_args: object, **_more: object) -> int:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(SpoolFile, "append", broken)
            spool.put(a_batch(1))
            await spool.flush()
            assert spool.buffered == 1
        await eventually(lambda: spool.buffered == 0, "tried again")
        assert (await live(spool)).depth == 1
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_a_directory_that_takes_no_file_fails_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    spool = a_spool(tmp_path / "taken")
    with pytest.raises(SpoolError, match="taken"):
        asyncio.run(spool.start())
    spool._thread.join(10)


def test_a_caller_that_gives_up_or_errs_does_not_harm_the_spool(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path)
        await spool.start()
        hold = threading.Event()
        holding = asyncio.ensure_future(spool._call(lambda _file: hold.wait(10)))
        given_up = asyncio.ensure_future(live(spool))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        hold.set()
        assert await holding
        with pytest.raises(ZeroDivisionError):
            await spool._call(lambda _file: 1 // 0)
        assert (await live(spool)).depth == 0
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_after_a_power_cut_the_batches_go_on_under_a_new_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*, clean: bool) -> tuple[int, int]:
        spool = a_spool(tmp_path)
        await spool.start()
        spool.put(a_batch(1))
        await spool.flush()
        extent = await live(spool)
        await spool.close(clean=clean)
        return extent.epoch, extent.depth

    first, _ = asyncio.run(run(clean=False))
    assert asyncio.run(run(clean=False)) == (first, 2), "killed"
    monkeypatch.setattr("edge.spool.keeper.boot_id", lambda: "another boot")
    epoch, depth = asyncio.run(run(clean=False))
    assert epoch > first
    assert depth == 3


def test_what_is_seen_without_asking_is_never_that_of_a_file_which_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = a_spool(tmp_path)
        epoch = (await spool.start()).epoch
        spool.put(a_batch(1))
        await spool.flush()
        assert (await spool.read_from(Lane.LIVE, 1, 9))[0].payload == a_batch(1).payload
        await spoil(spool, tmp_path / f"spool-{epoch}.db")
        with contextlib.suppress(SpoolError):
            await live(spool)
        assert (await live(spool)).epoch > epoch
        assert spool.held[Lane.LIVE].epoch > epoch
        assert a_batch(1).payload not in [batch.payload for batch in await spool.read_from(Lane.LIVE, 1, 9)]
        await spool.close(clean=True)

    asyncio.run(scenario())
