"""A disk that is full, or read-only for a while: nothing that was put is lost, and all goes on afterwards.

On a real file system of a few MB, in a mount namespace of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROLOGUE = """
    import asyncio, logging, os, subprocess, sys, time
    from pathlib import Path
    from contract.delivery import BatchId
    from edge.batch import Batch, gap_batch
    from edge.errors import SpoolError
    from edge.lane import Lane
    from edge.spool import Spool, SpoolLimits

    logging.basicConfig(format="%(levelname)s %(message)s", level="INFO", stream=sys.stdout)
    DISK = Path(sys.argv[1])
    LIMITS = SpoolLimits(max_bytes=16 << 20, buffer_bytes=8 << 20, commit_interval_s=0.01)
    MADE_MS = 1_710_000_000_000

    def a_spool(limits=LIMITS):
        return Spool(DISK / "state", limits, lambda: MADE_MS, lambda device, gap: gap_batch(device, gap, MADE_MS))

    def put(spool, numbers, size_bytes=8000):
        for n in numbers:
            spool.put(Batch("plant", n.to_bytes(8, "big") + bytes(size_bytes), MADE_MS + n, MADE_MS + n))

    def fill_disk():
        with (DISK / "ballast").open("wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(4096)):
                    pass
            except OSError:
                pass

    async def until(condition, what):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.02)

    async def numbers(spool):
        return [int.from_bytes(b.payload[:8], "big") for b in await spool.read_from(Lane.LIVE, 1, 10_000)]
"""


def run_on_small_disk(tmp_path: Path, scenario: str, size: str = "2m") -> str:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = textwrap.dedent(PROLOGUE) + textwrap.dedent(scenario)
    mounted = f'mount -t tmpfs -o size={size} tmpfs {disk} && exec "$@"'
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh"]
    done = subprocess.run(
        [*unshare, sys.executable, "-W", "error", "-c", script, str(disk)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    if done.returncode and "unshare failed" in done.stdout:
        pytest.skip(f"no mount namespaces here: {done.stdout}")
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_disk_that_others_fill_and_free_again(tmp_path: Path) -> None:
    said = run_on_small_disk(
        tmp_path,
        """
        async def main():
            spool = a_spool()
            await spool.start()
            put(spool, range(1, 11))
            await spool.flush()
            fill_disk()
            put(spool, range(11, 101))
            await spool.flush()
            assert spool.buffered, "there is no room"
            assert await numbers(spool) == list(range(1, 11)), "what is on the disk can be read, and delivered"
            # What is delivered is forgotten although the disk is full; that alone makes room for little.
            spool.forget(BatchId((await spool.extents())[Lane.LIVE].epoch, 2))
            (DISK / "ballast").unlink()
            await until(lambda: not spool.buffered, "it goes on")
            assert await numbers(spool) == list(range(3, 101))
            assert (spool.dropped_batches, spool.evicted_batches) == (0, 0)
            await spool.close(clean=True)

        asyncio.run(main())
        """,
    )
    assert said.count("free space there") == 1, "told once"
    assert said.count("the spool works again") == 1


def run_on_failing_disk(tmp_path: Path, scenario: str, call: str, error: str, when: str) -> str:
    """Runs a scenario in which the kernel answers some of the calls of one kind with an error."""
    strace = shutil.which("strace")
    assert strace, "this test needs strace (Debian: apt-get install strace)"
    script = textwrap.dedent(PROLOGUE) + textwrap.dedent(scenario)
    script = script.replace(
        "import asyncio,", "import edge.spool.keeper\nedge.spool.keeper._RETRY_S = 0.02\nimport asyncio,"
    )
    failing = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
    done = subprocess.run(
        [strace, "-f", "-o", "/dev/null", *failing, sys.executable, "-c", script, str(tmp_path / "disk")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
@pytest.mark.parametrize("error", ["EROFS", "EIO", "ENOSPC"])
def test_a_disk_that_refuses_for_a_while(tmp_path: Path, call: str, error: str) -> None:
    first = 60 if call == "pwrite64" else 20
    said = run_on_failing_disk(
        tmp_path,
        """
        async def main():
            DISK.mkdir()
            spool = a_spool()
            await spool.start()
            told = []
            for n in range(1, 41):
                put(spool, [n])
                await spool.flush()
                if not spool.buffered:
                    told.append(n)
            await until(lambda: not spool.buffered, "it goes on")
            assert len(told) < 40, "it refused"
            assert (found := await numbers(spool)) == list(range(1, 41)), found
            await spool.close(clean=True)

        asyncio.run(main())
        """,
        call,
        error,
        f"{first}..{first + 15}",
    )
    assert said.count("the spool works again") >= 1


def test_a_disk_that_cannot_be_read_for_a_moment_costs_a_new_file_and_no_batch(tmp_path: Path) -> None:
    said = run_on_small_disk(
        tmp_path,
        """
        from edge.errors import CorruptSpoolError
        from edge.spool.file import SpoolFile

        # Counting the reads of a disk would fail another one with each change of what is read.
        def fail_once(file, *_):
            SpoolFile.read_from = works
            raise CorruptSpoolError(f"spool {file.path}: disk I/O error")

        async def main():
            global works
            spool = a_spool()
            await spool.start()
            put(spool, range(1, 101))
            await spool.flush()
            put(spool, [101])
            await spool.flush()
            works, SpoolFile.read_from = SpoolFile.read_from, fail_once
            try:
                await numbers(spool)
            except SpoolError as exc:
                print("TOLD", exc)
            await until(lambda: not list(DISK.glob("state/*.wrecked")) and list(DISK.glob("state/*.db.*")), "salvaged")
            found = set()
            for lane in (Lane.LIVE, Lane.BACKFILL):
                for batch in await spool.read_from(lane, 1, 10_000):
                    found.add(int.from_bytes(batch.payload[:8], "big"))
            print("FOUND", len(found & set(range(1, 102))))
            await spool.close(clean=True)

        asyncio.run(main())
        """,
        size="8m",
    )
    assert "TOLD spool" in said
    assert "set aside" in said
    assert "FOUND 101" in said, said


def test_what_has_gathered_may_be_more_than_there_is_room_for_at_once(tmp_path: Path) -> None:
    run_on_small_disk(
        tmp_path,
        """
        async def main():
            spool = a_spool(SpoolLimits(max_bytes=256 << 10, buffer_bytes=8 << 20, commit_interval_s=0.01))
            await spool.start()
            put(spool, range(1, 11))
            await spool.flush()
            fill_disk()
            put(spool, range(11, 101))
            await spool.flush()
            assert "full" in spool.fault
            (DISK / "ballast").unlink()
            await until(lambda: not spool.buffered, "it goes on, in small commits")
            assert spool.fault is None
            kept = await numbers(spool)
            assert kept and kept[-1] == 100 or spool.evicted_batches
            await spool.close(clean=True)

        asyncio.run(main())
        """,
        size="700k",
    )


def test_it_leaves_room_for_others(tmp_path: Path) -> None:
    said = run_on_small_disk(
        tmp_path,
        """
        async def main():
            spool = a_spool(SpoolLimits(16 << 20, 1 << 20, 0.01, min_free_bytes=64 << 20))
            await spool.start()
            for first in range(1, 601, 6):
                put(spool, range(first, first + 6), 16_000)
                await spool.flush()
                disk = os.statvfs(DISK)
                assert disk.f_bavail, "a twentieth stays free, but for the log"
            assert spool.evicted_batches > 50
            assert not spool.buffered
            kept = await numbers(spool)
            assert kept[-1] == 600
            await spool.close(clean=True)

        asyncio.run(main())
        """,
        size="8m",
    )
    assert "full" not in said


def test_after_a_power_cut_a_full_disk_keeps_nobody_from_delivering(tmp_path: Path) -> None:
    said = run_on_small_disk(
        tmp_path,
        """
        import edge.spool.keeper

        async def main():
            spool = a_spool()
            await spool.start()
            put(spool, range(1, 21))
            await spool.close(clean=False)
            (DISK / "state" / "spool-5.db.wrecked").write_bytes(b"no database")
            edge.spool.keeper.boot_id = lambda: "another boot"
            fill_disk()
            # Enough for SQLite's index of the log, which lies in memory that the disk lends, and for nothing else.
            os.truncate(DISK / "ballast", (DISK / "ballast").stat().st_size - 32_768)
            again = a_spool()
            await again.start()
            assert await numbers(again) == list(range(1, 21))
            again.forget(BatchId((await again.extents())[Lane.LIVE].epoch, 20))
            (DISK / "ballast").unlink()
            await until(lambda: not list(DISK.glob("state/*.wrecked")), "what was set aside is seen to later")
            await again.close(clean=True)

        asyncio.run(main())
        """,
    )
    assert "of spool-5.db.wrecked 0 batches were salvaged" in said


def test_a_disk_that_is_full_at_the_start_says_so(tmp_path: Path) -> None:
    said = run_on_small_disk(
        tmp_path,
        """
        (DISK / "state").mkdir()
        fill_disk()

        async def main():
            spool = a_spool()
            try:
                await spool.start()
            except SpoolError as exc:
                print("REFUSED", exc)
            (DISK / "ballast").unlink()
            again = a_spool()
            await again.start()
            put(again, [1])
            await again.close(clean=True)

        asyncio.run(main())
        """,
    )
    assert "REFUSED spool" in said
    assert "set aside" not in said, "what was never begun is no loss"
    assert "full" in said or "disk I/O" in said
