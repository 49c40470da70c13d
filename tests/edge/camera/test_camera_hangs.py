"""A camera that hangs in the middle of a read is cut, told, and comes back."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from edge.batch import failed_poll
from edge.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.reading import Reading

TCP_REPAIR = 19
LOST_S = 1.5


def frames(readings: list[Reading]) -> int:
    return sum(reading.metric == "brightness" and reading.value is not None for reading in readings)


def test_a_stopped_camera_is_cut_though_nobody_polls_and_comes_back(
    simulated_camera: Any, cameras: Any, is_running: Callable[[int], bool]
) -> None:
    camera = simulated_camera(fps=10)
    config = cameras.config(url=camera.addresses["mjpeg"], interval_s=0.2, lost_after_s=LOST_S)

    async def hang() -> tuple[str, float]:
        async with config.open(cameras.clock) as source:
            await cameras.polled(source, lambda readings: frames(readings) >= 2)
            camera.process.send_signal(signal.SIGSTOP)
            stopped_s = time.monotonic()
            while is_running(source._process.pid):
                assert time.monotonic() < stopped_s + 10, "it is not cut"
                await asyncio.sleep(0.02)
            cut_s = time.monotonic() - stopped_s
            return await cameras.lost(source), cut_s

    async def again() -> list[Reading]:
        async with config.open(cameras.clock) as source:
            found: list[Reading] = await cameras.polled(source, lambda readings: frames(readings) >= 2)
            return found

    why, cut_s = asyncio.run(hang())
    assert re.search(r"stream.mjpg: no frame for [1-6]\.\d s", why)
    # Long before anybody polled. Counted from the last frame, which came up to a tenth of a second before the stop.
    assert LOST_S - 0.3 <= cut_s <= LOST_S + 5
    camera.process.send_signal(signal.SIGCONT)
    assert frames(asyncio.run(again())) >= 2


def test_a_connection_that_is_half_open_in_the_middle_of_a_frame_is_cut(
    scripted: Any, cameras: Any, mjpeg: Any
) -> None:
    vanished = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        whole = mjpeg.part(mjpeg.jpeg())
        connection.sendall(mjpeg.HEADER + whole + whole[: len(whole) // 2])
        time.sleep(0.3)  # until the peer has acknowledged it
        try:
            connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            return  # then the connection is silent, which to the one who only reads is the same
        # In repair mode the socket goes without a FIN and without a RST, as with the power.
        connection.close()
        vanished.set()

    async def hang(port: int) -> str:
        config = cameras.config(url=f"http://127.0.0.1:{port}/", lost_after_s=LOST_S)
        async with config.open(cameras.clock) as source:
            await cameras.polled(source, lambda readings: frames(readings) >= 1)
            why: str = await cameras.lost(source)
            return why

    with scripted(script) as server:
        assert re.search(r"no frame for 1\.\d s", asyncio.run(hang(server.port)))
    assert vanished.is_set() or os.geteuid() != 0


RTSP_SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=yard\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"


def rtsp_server(stream: bytes, goes_on: threading.Event) -> Callable[[socket.socket], None]:
    """Serves an MPEG transport stream by RTSP, interleaved, at ten times its pace; and then not a word more."""

    def answer(connection: socket.socket, headers: str, body: bytes = b"") -> None:
        connection.sendall(f"RTSP/1.0 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def script(connection: socket.socket) -> None:
        while True:
            request = connection.recv(8192).decode()
            if not request:
                return
            cseq = re.search(r"CSeq: (\d+)", request)
            number = f"CSeq: {cseq[1] if cseq else 0}\r\nSession: 1\r\n"
            method = request.split()[0]
            if method == "OPTIONS":
                answer(connection, f"{number}Public: DESCRIBE, SETUP, PLAY\r\n")
            elif method == "DESCRIBE":
                answer(connection, f"{number}Content-Type: application/sdp\r\n", RTSP_SDP)
            elif method == "SETUP":
                answer(connection, f"{number}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
            else:
                answer(connection, number)
                break
        for sequence, at in enumerate(range(0, len(stream), 7 * 188)):
            packet = struct.pack(">BBHII", 0x80, 33, sequence, sequence * 900, 1) + stream[at : at + 7 * 188]
            connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            time.sleep(0.001)
        goes_on.wait(60)

    return script


def test_an_rtsp_server_that_stops_sending_is_cut(scripted: Any, cameras: Any, video: Callable[..., Path]) -> None:
    goes_on = threading.Event()

    async def hang(port: int) -> tuple[int, str]:
        config = cameras.config(url=f"rtsp://127.0.0.1:{port}/live", interval_s=0.02, lost_after_s=2)
        async with config.open(cameras.clock) as source:
            seen = await cameras.polled(source, lambda readings: frames(readings) >= 1)
            why: str = await cameras.lost(source)
            return frames(seen), why

    with scripted(rtsp_server(video(150, ".ts").read_bytes(), goes_on)) as server:
        seen, why = asyncio.run(hang(server.port))
        goes_on.set()
    assert seen >= 1
    assert re.search(r"live: no frame for 2\.\d s", why)


def test_a_lost_camera_says_so_in_place_of_readings_and_sends_no_picture(cameras: Any) -> None:
    config = cameras.config(url="http://camera/x", clips={})
    readings = {reading.metric: reading for reading in failed_poll(config.metrics(), 1234)}
    assert readings["tamper"].value == "lost"
    assert readings["tamper"].quality == 192
    assert readings["brightness"].value is None
    assert readings["brightness"].quality == 0
    assert "Headwater/Clip" not in readings
    assert {metric.name: metric.lane for metric in config.metrics()} == {
        **dict.fromkeys(("brightness", "sharpness", "motion", "motion_active", "scene_score"), Lane.LIVE),
        "tamper": Lane.ALARM,
        "Headwater/Clip": Lane.IMAGE,
    }
