"""A stream of JPEGs: what is measured of which frame, as of when, and what becomes of what is broken."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from contract.sparkplug import Quality
from edge.sources.camera.child import settings_of
from edge.vision.mjpeg import StreamFault
from edge.vision.stop import Stop
from edge.vision.video import stream_frames

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from edge.reading import Reading
    from edge.sources import CameraConfig
    from edge.vision.frame import Frame

T0_MS = 1_700_000_000_000
WAIT_S = 30.0


def moments(count: int) -> Callable[[list[Reading]], bool]:
    """Whether so many frames have come."""
    return lambda readings: len({reading.sampled_at_ms for reading in readings}) >= count


def values(readings: list[Reading], metric: str) -> dict[int, Any]:
    return {r.sampled_at_ms: r.value for r in readings if r.metric == metric}


class Watching:
    """What a camera tells that sends scripts."""

    def __init__(self, cameras: Any, mjpeg: Any, scripted: Any) -> None:
        self.sends = mjpeg.sends
        self.part = mjpeg.part
        self.grey = mjpeg.grey
        self.header = mjpeg.HEADER
        self.cameras = cameras
        self.served = scripted

    def config(self, server: Any, **options: Any) -> CameraConfig:
        config: CameraConfig = self.cameras.config(url=f"http://127.0.0.1:{server.port}/s.mjpg", **options)
        return config

    def readings(self, count: int, *scripts: Callable[[socket.socket], None]) -> list[Reading]:
        """Until so many frames have come."""
        with self.served(*scripts) as server:
            readings: list[Reading] = asyncio.run(self.cameras.watched(self.config(server), moments(count)))
            return readings

    def of_frames(self, *frames: tuple[bytes, int | None]) -> list[Reading]:
        """Of a stream of these, which then is silent."""
        return self.readings(2, self.sends(*(self.part(*frame) for frame in frames), then_s=30))


@pytest.fixture
def watching(cameras: Any, mjpeg: Any, scripted: Any) -> Watching:
    return Watching(cameras, mjpeg, scripted)


def test_first_frame_of_each_slot_is_measured_and_timed_by_the_camera(watching: Watching) -> None:
    times = [T0_MS + ms for ms in (250, 500, 999, 1000, 1400, 3001)]
    parts = [watching.part(watching.grey(i), at) for i, at in enumerate(times)]
    readings = watching.readings(3, watching.sends(*parts, then_s=30))
    assert list(values(readings, "brightness")) == [times[0], times[3], times[5]]
    for index, at in ((0, times[0]), (3, times[3]), (5, times[5])):
        grey = cv2.imdecode(np.frombuffer(watching.grey(index), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert values(readings, "brightness")[at] == pytest.approx(float(grey.mean()), rel=1e-12)
        assert values(readings, "sharpness")[at] == pytest.approx(
            float(cv2.Laplacian(grey, cv2.CV_64F).var()), rel=1e-12
        )
    assert all(r.quality == Quality.GOOD for r in readings)


def test_a_frame_of_a_slot_already_kept_is_kept_again_on_a_new_connection(watching: Watching) -> None:
    parts = [watching.part(watching.grey(i), T0_MS + 10 * i) for i in range(4)]
    readings = watching.readings(2, watching.sends(*parts[:2]), watching.sends(*parts[2:], then_s=30))
    assert list(values(readings, "brightness")) == [T0_MS, T0_MS + 20]


def test_motion_is_the_fraction_that_changed_and_the_first_frame_has_none(watching: Watching) -> None:
    third = np.full((48, 64), 90, dtype=np.uint8)
    third[:16] = 250
    pictures = [watching.grey(level=90), watching.grey(level=90), bytes(cv2.imencode(".jpg", third)[1])]
    parts = [watching.part(jpeg, T0_MS + 1000 * i) for i, jpeg in enumerate(pictures)]
    motion = values(watching.readings(3, watching.sends(*parts, then_s=30)), "motion")
    assert list(motion) == [T0_MS + 1000, T0_MS + 2000]
    assert motion[T0_MS + 1000] == 0.0
    assert motion[T0_MS + 2000] == pytest.approx(1 / 3, abs=0.1)


def test_a_covered_lens_is_dark_and_flat(watching: Watching) -> None:
    readings = watching.of_frames((watching.grey(), T0_MS), (watching.grey(level=3), T0_MS + 1000))
    assert values(readings, "brightness")[T0_MS + 1000] == pytest.approx(3.0)
    assert values(readings, "sharpness")[T0_MS + 1000] == 0.0


def test_every_kept_frame_comes_out_of_one_late_poll(watching: Watching) -> None:
    parts = [watching.part(watching.grey(i), T0_MS + 1000 * i) for i in range(40)]
    cameras = watching.cameras

    async def polled_late(config: CameraConfig) -> list[Reading]:
        async with config.open(cameras.clock) as source:
            readings: list[Reading] = await cameras.polled(source, moments(1))
            deadline = time.monotonic() + WAIT_S
            while source._waiting.qsize() + len(values(readings, "brightness")) < 40:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            return readings + await source.poll()

    with watching.served(watching.sends(*parts, then_s=30)) as server:
        readings = asyncio.run(polled_late(watching.config(server)))
    assert list(values(readings, "brightness")) == [T0_MS + 1000 * i for i in range(40)]


def test_what_arrived_before_the_close_is_what_remains(watching: Watching) -> None:
    more, sent = threading.Event(), threading.Event()
    cameras = watching.cameras

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(watching.header + watching.part(watching.grey(0), T0_MS))
        more.wait(WAIT_S)
        connection.sendall(watching.part(watching.grey(1), T0_MS + 1000))
        sent.set()

    async def closed_early(config: CameraConfig) -> list[Reading]:
        async with config.open(cameras.clock) as source:
            readings: list[Reading] = await cameras.polled(source, moments(1))
            more.set()
            assert await asyncio.to_thread(sent.wait, WAIT_S)
        readings += source.remaining()
        assert source.remaining() == []
        return readings

    with watching.served(script) as server:
        readings = asyncio.run(closed_early(watching.config(server)))
    assert list(values(readings, "brightness")) == [T0_MS, T0_MS + 1000]


def test_without_a_timestamp_the_time_is_that_of_the_arrival_on_the_agents_clock(watching: Watching) -> None:
    cameras = watching.cameras

    async def first(config: CameraConfig) -> tuple[int, list[Reading], int]:
        started_ms = cameras.clock()
        async with config.open(lambda: cameras.clock() - 3_600_000) as source:
            readings = await cameras.polled(source, moments(1))
        return started_ms, readings, cameras.clock()

    with watching.served(watching.sends(watching.part(watching.grey()), then_s=30)) as server:
        started_ms, readings, ended_ms = asyncio.run(first(watching.config(server)))
    assert started_ms - 3_600_000 <= readings[0].sampled_at_ms <= ended_ms - 3_600_000


@pytest.mark.parametrize("fault", ["truncated", "garbage", "clock not set"])
def test_a_frame_that_cannot_be_used_has_bad_quality(watching: Watching, fault: str) -> None:
    whole = watching.grey(0)
    body = {"truncated": whole[:-40], "garbage": b"\xff\xd8 no image \xff\xd9", "clock not set": whole}[fault]
    at_ms = 5_000 if fault == "clock not set" else T0_MS
    readings = watching.of_frames((body, at_ms), (watching.grey(1), T0_MS + 5000))
    names = ("brightness", "sharpness", "motion", "motion_active", "scene_score")
    assert [(r.metric, r.value, r.quality) for r in readings[:5]] == [(name, None, Quality.BAD) for name in names]
    assert all(r.sampled_at_ms > 1_600_000_000_000 for r in readings)
    assert readings[5].quality == Quality.GOOD


@pytest.mark.parametrize(
    ("header", "said_bytes", "then_s", "reason"),
    [
        (None, 10**6, 0.001, "ended in the middle of a frame"),
        (None, 10**8, 30, "max_frame_bytes"),
        (b"HTTP/1.0 503 Busy\r\n\r\n", None, 0.001, "HTTP 503"),
        (b"HTTP/1.0 500 " + b"\xff" * 60_000 + b"\r\n\r\n", None, 0.001, "HTTP 500"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", None, 0.001, "text/html is not"),
        (None, None, 30, "no '--frame'"),
    ],
    ids=["cut", "oversize", "refused", "verbose", "no stream", "no boundary"],
)
def test_a_broken_stream_is_told_and_opened_again(
    watching: Watching,
    header: bytes | None,
    said_bytes: int | None,
    then_s: float,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame = b"x" * 100_000 if said_bytes is None else watching.part(watching.grey(0), T0_MS, length=said_bytes)
    chunks = [frame] if header is None else []
    broken = watching.sends(*chunks, then_s=then_s, header=header or watching.header)
    with caplog.at_level("INFO"):
        readings = watching.readings(1, broken, watching.sends(watching.part(watching.grey(1), T0_MS), then_s=30))
    assert list(values(readings, "brightness")) == [T0_MS]
    assert [r.levelname for r in caplog.records if reason in r.getMessage()] == ["WARNING"]
    assert "frames come again" in caplog.text


def test_frames_that_ffmpeg_reads_are_measured_by_their_arrival(watching: Watching) -> None:
    # RTSP goes through FFmpeg, and so does this stream when it is asked to.
    parts = [watching.part(watching.grey(level=90)) for _ in range(30)]
    with watching.served(watching.sends(*parts, then_s=0.5)) as server:
        frames = stream_frames(settings_of(watching.config(server), None), Stop())
        seen: list[tuple[Frame, float]] = []
        started_s = time.monotonic()
        with pytest.raises(StreamFault, match="ended"):
            seen.extend((frame, float(frame.picture.grey().mean())) for frame in frames)
    assert seen
    for frame, brightness in seen:
        assert brightness == pytest.approx(90, abs=2)
        assert frame.sampled_at_ms is None
        assert started_s < frame.arrived_s < time.monotonic()
