"""The camera's own process: reads the stream, keeps the first frame of each slot, measures it.

Its first line of stdin is `Settings` as JSON; end of file there, or SIGTERM, stops it. It writes one JSON line to
stdout for each thing that happens: {"ready": true}, {"fault": text}, or a kept frame, whose "values" are null
where it could not be used. It never outlives the agent, and the agent may kill it at any time.
"""

from __future__ import annotations

import base64
import ctypes
import http.client
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import cv2
import numpy as np

from edge.sources.camera.frames import FrameFault, Meter, Slots, decode_jpeg, timestamp_ms
from edge.sources.camera.mjpeg import MultipartParser, StreamFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from edge.sources.camera.frames import Grey

_PR_SET_PDEATHSIG: Final = 1
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 3.0
_DRAIN_S: Final = 0.3
_READ_BYTES: Final = 256 * 1024
_FAULT_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Settings:
    """What the agent tells its child."""

    url: str
    username: str | None
    password: str | None
    interval_s: float
    lost_after_s: float
    max_frame_bytes: int
    parent_pid: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came; `grey` decodes it and raises FrameFault."""

    sampled_at_ms: int | None  # the camera's own time, if it sends one
    arrived_s: float  # monotonic
    grey: Callable[[], Grey]

    @property
    def slot_time_ms(self) -> float:
        """The time that decides its slot."""
        return self.arrived_s * 1000 if self.sampled_at_ms is None else self.sampled_at_ms


class Stop:
    """The wish to stop, and the socket that must not keep us from it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._socket: socket.socket | None = None
        self._deadline_s = math.inf

    def request(self, *_: object) -> None:
        """Let the reading end: what the socket holds is still read, for a moment."""
        self._deadline_s = time.monotonic() + _DRAIN_S
        self._event.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)

    def watch(self, connection: socket.socket) -> None:
        """End the reading of this socket on request."""
        self._socket = connection

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    @property
    def is_overdue(self) -> bool:
        """Whether to stop even though there is something left to read."""
        return time.monotonic() > self._deadline_s

    def wait(self, seconds: float) -> None:
        """Sleep, unless stopped."""
        self._event.wait(seconds)


def mjpeg_frames(settings: Settings, stop: Stop) -> Iterator[Frame]:
    """The frames of an MJPEG stream over HTTP; raises StreamFault when it ends, stalls or is none."""
    address = urlsplit(settings.url)
    connect = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(connect(address.netloc, timeout=settings.lost_after_s)) as connection:
            connection.connect()
            stop.watch(connection.sock)
            connection.request("GET", _target(settings.url), headers=_authorization(settings))
            with connection.getresponse() as response:
                yield from _frames_of(response, settings, stop)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise StreamFault(f"{type(exc).__name__}: {exc}") from exc


def _frames_of(response: http.client.HTTPResponse, settings: Settings, stop: Stop) -> Iterator[Frame]:
    if response.status != http.HTTPStatus.OK:
        raise StreamFault(f"HTTP {response.status} {response.reason}")
    boundary = response.headers.get_boundary()
    if boundary is None or response.headers.get_content_maintype() != "multipart":
        raise StreamFault(f"{response.headers.get_content_type()} is not an MJPEG stream")
    parser = MultipartParser(boundary, settings.max_frame_bytes)
    while data := response.read1(_READ_BYTES):
        arrived_s = time.monotonic()
        for part in parser.feed(data):
            yield _mjpeg_frame(part.headers, part.body, arrived_s)
        if stop.is_overdue:
            return
    if not stop.requested:
        raise StreamFault("the stream ended" + (" in the middle of a frame" if parser.is_inside_part else ""))


def _mjpeg_frame(headers: Mapping[str, str], body: bytes, arrived_s: float) -> Frame:
    try:
        return Frame(timestamp_ms(headers), arrived_s, lambda: decode_jpeg(body))
    except FrameFault as exc:
        fault = exc  # the name in `except` ends with it

        def fail() -> Grey:
            raise fault

        return Frame(None, arrived_s, fail)


def _target(url: str) -> str:
    address = urlsplit(url)
    return (address.path or "/") + (f"?{address.query}" if address.query else "")


def _authorization(settings: Settings) -> dict[str, str]:
    if settings.username is None:
        return {}
    pair = f"{settings.username}:{settings.password or ''}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def video_frames(settings: Settings, stop: Stop) -> Iterator[Frame]:
    """The frames of whatever FFmpeg can open, timed by their arrival; raises StreamFault.

    FFmpeg's time-outs do not cut every hang (opencv#22677): the agent kills us then.
    """
    timeout_ms = round(settings.lost_after_s * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    capture = cv2.VideoCapture(_with_credentials(settings), cv2.CAP_FFMPEG, limits)
    try:
        if not capture.isOpened():
            raise StreamFault("the stream cannot be opened")
        while capture.grab():
            yield Frame(None, time.monotonic(), lambda: _retrieved(capture))
            if stop.requested:
                return
        raise StreamFault(f"the stream ended or brought no frame in {settings.lost_after_s:g} s")
    finally:
        capture.release()


def _retrieved(capture: cv2.VideoCapture) -> Grey:
    found, image = capture.retrieve()
    if not found:
        raise FrameFault("a frame cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _with_credentials(settings: Settings) -> str:
    if settings.username is None:
        return settings.url
    scheme, _, rest = settings.url.partition("://")
    return f"{scheme}://{quote(settings.username, safe='')}:{quote(settings.password or '', safe='')}@{rest}"


def keep_frames(frames: Iterator[Frame], interval_s: float, meter: Meter) -> Iterator[dict[str, object]]:
    """What is told of the frames of one connection: one line for each that is kept."""
    slots = Slots(interval_s)
    for frame in frames:
        if slots.takes(frame.slot_time_ms):
            line: dict[str, object] = {"sampled_at_ms": frame.sampled_at_ms, "arrived_s": frame.arrived_s}
            try:
                yield line | {"values": meter.measure(frame.grey())}
            except FrameFault as exc:
                yield line | {"values": None, "reason": str(exc)}


def capture(settings: Settings, stop: Stop, tell: Callable[[dict[str, object]], None]) -> None:
    """Read the camera until stopped, over and over where it fails."""
    open_stream = mjpeg_frames if settings.url.startswith("http") else video_frames
    meter, pause_s = Meter(), _FIRST_PAUSE_S
    while not stop.requested:
        try:
            for line in keep_frames(open_stream(settings, stop), settings.interval_s, meter):
                tell(line)
                pause_s = _FIRST_PAUSE_S
        except StreamFault as exc:
            if not stop.requested:
                # What a server says of itself is as long as it likes.
                tell({"fault": str(exc)[:_FAULT_CHARACTERS]})
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def die_with(parent_pid: int) -> None:
    """Have the kernel kill us when the agent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it was already dead before the line above
        sys.exit(1)


def main() -> None:
    """Capture as stdin says."""
    # Ctrl-C goes to the whole group of processes: the agent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = Settings(**json.loads(sys.stdin.buffer.readline()))
    die_with(settings.parent_pid)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.request)

    def watch_stdin() -> None:
        sys.stdin.buffer.read()
        stop.request()

    threading.Thread(target=watch_stdin, name="stdin", daemon=True).start()
    cv2.setNumThreads(1)

    def tell(line: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    tell({"ready": True})
    capture(settings, stop, tell)


if __name__ == "__main__":
    main()
