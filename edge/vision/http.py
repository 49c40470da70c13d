"""Frames of an MJPEG stream over HTTP."""

from __future__ import annotations

import base64
import http.client
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from edge.vision.frame import FaultyPicture, Frame, JpegPicture
from edge.vision.mjpeg import MultipartParser, StreamFault
from edge.vision.picture import FrameFault, timestamp_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge.vision.settings import Settings
    from edge.vision.stop import Stop

_READ_BYTES: Final = 256 * 1024


def mjpeg_frames(settings: Settings, stop: Stop) -> Iterator[Frame]:
    """The frames, timed by the camera where it says so; raises StreamFault when it ends, stalls or is none."""
    assert settings.url is not None
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
            yield _frame(part.headers, part.body, arrived_s)
        if stop.is_overdue:
            return
    if not stop.requested:
        raise StreamFault("the stream ended" + (" in the middle of a frame" if parser.is_inside_part else ""))


def _frame(headers: Mapping[str, str], body: bytes, arrived_s: float) -> Frame:
    try:
        return Frame(timestamp_ms(headers), arrived_s, JpegPicture(body))
    except FrameFault as exc:
        return Frame(None, arrived_s, FaultyPicture(str(exc)))


def _target(url: str) -> str:
    address = urlsplit(url)
    return (address.path or "/") + (f"?{address.query}" if address.query else "")


def _authorization(settings: Settings) -> dict[str, str]:
    if settings.username is None:
        return {}
    pair = f"{settings.username}:{settings.password or ''}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
