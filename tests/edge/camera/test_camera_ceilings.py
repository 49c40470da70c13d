"""What a camera's process may take: memory, processor, frames a second."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    import pytest

    from edge.reading import Reading

T0_MS = 1_700_000_000_000


def frames(count: int) -> Callable[[list[Reading]], bool]:
    """Until so many were measured."""
    return lambda readings: sum(r.metric == "brightness" and r.value is not None for r in readings) >= count


def endless(mjpeg: Any, body: bytes, fps: float) -> Callable[[socket.socket], None]:
    """Sends a frame again and again, each of its own time."""

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(mjpeg.HEADER)
        started_s, n = time.monotonic(), 0
        while True:
            connection.sendall(mjpeg.part(body, T0_MS + round(1000 * n / fps)))
            n += 1
            time.sleep(max(0.0, started_s + n / fps - time.monotonic()))

    return script


def stat_of(pid: int | str) -> list[str]:
    """The fields of the kernel's stat file, from the state on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def used_s(pid: int) -> float:
    return (int(stat_of(pid)[11]) + int(stat_of(pid)[12])) / 100


def test_a_process_over_its_memory_is_killed_and_told(
    cameras: Any, mjpeg: Any, scripted: Any, is_running: Callable[[int], bool]
) -> None:
    async def grow(config: Any) -> str:
        async with config.open(cameras.clock) as source:
            await cameras.polled(source, frames(1))
            # From now on a bound that the interpreter alone goes over.
            source._config = config.model_copy(update={"max_memory_mb": 20})
            why: str = await cameras.lost(source)
            lost_s = time.monotonic()
            while is_running(source._process.pid):  # what was killed takes a moment to be gone
                assert time.monotonic() < lost_s + 5, "it is not killed"
                await asyncio.sleep(0.01)
            return why

    with scripted(endless(mjpeg, mjpeg.jpeg(), 10)) as server:
        why = asyncio.run(grow(cameras.config(url=f"http://127.0.0.1:{server.port}/")))
    assert re.search(r"its process took \d+ MiB: allowed are 20 \(max_memory_mb\)", why)


def test_a_picture_that_needs_too_much_memory_costs_that_frame_alone(cameras: Any, mjpeg: Any, scripted: Any) -> None:
    # 49 megapixels of one grey: a JPEG of some 300 kB.
    giant = bytes(cv2.imencode(".jpg", np.full((7000, 7000), 90, np.uint8))[1])
    assert len(giant) < 1 << 20

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(mjpeg.HEADER + mjpeg.part(giant, T0_MS) + mjpeg.part(mjpeg.jpeg(), T0_MS + 5000))
        connection.recv(1)

    with scripted(script) as server:
        config = cameras.config({"max_memory_mb": 40}, url=f"http://127.0.0.1:{server.port}/")
        readings = asyncio.run(_watched_with_room(cameras, config))
    values = [reading.value for reading in readings if reading.metric == "brightness"]
    assert values[0] is None, "its pixels alone are 49 MB"
    assert values[1] is not None


async def _watched_with_room(cameras: Any, config: Any) -> list[Reading]:
    """Only the bound inside the process counts here: the one from outside would kill it."""
    async with config.open(cameras.clock) as source:
        source._config = config.model_copy(update={"max_memory_mb": 4096})
        found: list[Reading] = await cameras.polled(source, frames(1))
        return found


def test_no_more_of_the_processor_is_taken_than_allowed(cameras: Any, mjpeg: Any, scripted: Any) -> None:
    async def watch(config: Any) -> tuple[float, int]:
        async with config.open(cameras.clock) as source:
            await cameras.polled(source, frames(3))
            pid = source._process.pid
            # What was saved up at the start has to be used first.
            await asyncio.sleep(0.7)
            before_s, started_s = used_s(pid), time.monotonic()
            found = await cameras.polled(source, lambda _: time.monotonic() - started_s > 2)
            share = (used_s(pid) - before_s) / (time.monotonic() - started_s)
            return share, sum(reading.metric == "brightness" for reading in found)

    # Each frame costs some 20 ms, and 30 come in a second.
    with scripted(endless(mjpeg, mjpeg.jpeg(width=1600, height=1200), 30)) as server:
        config = cameras.config(
            url=f"http://127.0.0.1:{server.port}/", interval_s=0.033, max_fps=60, cpu_percent=10, lost_after_s=20
        )
        share, measured = asyncio.run(watch(config))
    assert 0.02 < share < 0.18
    assert 1 <= measured < 30, "of some 60 that came"


def test_frames_that_are_left_out_are_told_once_and_so_is_the_end_of_it(
    cameras: Any, mjpeg: Any, scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(config: Any) -> dict[str, float]:
        async with config.open(cameras.clock) as source:
            for left_out in (0, 7, 30, 30, 30):
                await source._hear({"counts": {"frames": 90, "looked_at": 60, "left_out": left_out}})
            return dict(source.details())

    with scripted(endless(mjpeg, mjpeg.jpeg(), 10)) as server, caplog.at_level("INFO"):
        details = asyncio.run(tell(cameras.config(url=f"http://127.0.0.1:{server.port}/", cpu_percent=10)))
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert told == [
        "gate: frames are left out: they need more than 10 % of a core (cpu_percent)",
        "gate: no frame is left out any more",
    ]
    assert details["left_out"] == 30


def test_the_process_stands_back_and_has_no_more_threads_than_it_needs(cameras: Any, mjpeg: Any, scripted: Any) -> None:
    async def look(config: Any) -> tuple[int, int]:
        async with config.open(cameras.clock) as source:
            await cameras.polled(source, frames(2))
            stat = stat_of(source._process.pid)
            return int(stat[16]), int(stat[17])

    own_nice = int(stat_of("self")[16])
    with scripted(endless(mjpeg, mjpeg.jpeg(), 10)) as server:
        nice, threads = asyncio.run(
            look(cameras.config(url=f"http://127.0.0.1:{server.port}/", interval_s=0.1, nice=7))
        )
    assert nice == min(own_nice + 7, 19)
    assert threads == 2, "the one that works, and the one that hears stdin"
