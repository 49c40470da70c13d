"""Frames of what OpenCV opens: RTSP through FFmpeg, a USB camera through V4L2. Timed by their arrival."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import cv2

from edge.vision.frame import ONE_THREAD, Frame, PacketPicture, VideoPicture
from edge.vision.mjpeg import StreamFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.vision.settings import Settings
    from edge.vision.stop import Stop


_PACKETS: Final = -1  # as they come, nothing is decoded


def stream_frames(settings: Settings, stop: Stop) -> Iterator[Frame]:
    """The frames of whatever FFmpeg can open at a URL; raises StreamFault.

    FFmpeg's time-outs do not cut every hang (opencv#22677): the agent kills us then.
    """
    timeout_ms = round(settings.lost_after_s * 1000)
    wishes = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms, *ONE_THREAD]
    if settings.keyframes_only:
        wishes += [cv2.CAP_PROP_FORMAT, _PACKETS]
    capture = cv2.VideoCapture(_with_credentials(settings), cv2.CAP_FFMPEG, wishes)
    yield from (_key_frames if settings.keyframes_only else _frames)(capture, settings, stop)


def device_frames(settings: Settings, stop: Stop) -> Iterator[Frame]:
    """The frames of a V4L2 device; raises StreamFault."""
    assert settings.device is not None
    # JPEGs, where it has them, come through USB at rates that raw frames do not, and are decoded only when used.
    wishes = [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"), cv2.CAP_PROP_BUFFERSIZE, 1]
    yield from _frames(cv2.VideoCapture(settings.device, cv2.CAP_V4L2, wishes), settings, stop)


def _frames(capture: cv2.VideoCapture, settings: Settings, stop: Stop) -> Iterator[Frame]:
    try:
        if not capture.isOpened():
            raise StreamFault("it cannot be opened" if settings.device else "the stream cannot be opened")
        while capture.grab():
            yield Frame(None, time.monotonic(), VideoPicture(capture))
            if stop.requested:
                return
        raise StreamFault(f"the stream ended or brought no frame in {settings.lost_after_s:g} s")
    finally:
        capture.release()


def _key_frames(packets: cv2.VideoCapture, settings: Settings, stop: Stop) -> Iterator[Frame]:
    """The key frames of a stream of which nothing is decoded: each stands for itself, and is decoded if it is used."""
    opening = b""
    if packets.isOpened():
        # What the decoder needs beforehand, where the stream tells it apart (H.264's parameter sets).
        found, parameters = packets.retrieve(flag=round(packets.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))
        opening = parameters.tobytes() if found and parameters is not None else b""
    for frame in _frames(packets, settings, stop):
        if packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
            found, packet = packets.retrieve()
            if found and packet.nbytes <= settings.max_frame_bytes:
                yield replace(frame, picture=PacketPicture(opening + packet.tobytes()))


def _with_credentials(settings: Settings) -> str:
    assert settings.url is not None
    if settings.username is None:
        return settings.url
    scheme, _, rest = settings.url.partition("://")
    return f"{scheme}://{quote(settings.username, safe='')}:{quote(settings.password or '', safe='')}@{rest}"
