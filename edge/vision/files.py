"""Frames of a recording: a video, or a directory of JPEGs in the order of their names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2

from edge.vision.frame import ONE_THREAD, FaultyPicture, Frame, JpegPicture, VideoPicture
from edge.vision.mjpeg import StreamFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.vision.frame import Picture
    from edge.vision.settings import Settings
    from edge.vision.stop import Stop

_SUFFIXES: Final = frozenset({".jpg", ".jpeg"})
_USUAL_FPS: Final = 25.0
_FPS: Final = (0.01, 240.0)


def file_frames(settings: Settings, stop: Stop) -> Iterator[Frame]:
    """The frames, each at its time, or when the agent asks for one; raises StreamFault for what cannot be played.

    Ends with the recording, unless it is played in a loop.
    """
    assert settings.file is not None
    path = Path(settings.file)
    play, fps = _directory(path, settings) if path.is_dir() else _video(path)
    period_s = 1 / (settings.file_fps or fps)
    number, started_s = 0, time.monotonic()
    while True:
        first = number
        for picture in play():
            if settings.on_demand:
                stop.wait_until_wanted()
            else:
                stop.wait(max(0.0, started_s + number * period_s - time.monotonic()))
            if stop.requested:
                return
            yield Frame(None, time.monotonic(), picture, media_ms=1000 * number * period_s)
            number += 1
        if number == first:
            raise StreamFault("there is no frame in it")
        if not settings.loop:
            return


def _directory(path: Path, settings: Settings) -> tuple[Callable[[], Iterator[Picture]], float]:
    def play() -> Iterator[Picture]:
        for file in sorted(entry for entry in path.iterdir() if entry.suffix.lower() in _SUFFIXES):
            yield _jpeg(file, settings.max_frame_bytes)

    return play, 1 / settings.interval_s


def _jpeg(file: Path, max_bytes: int) -> Picture:
    try:
        with file.open("rb") as opened:
            body = opened.read(max_bytes + 1)
    except OSError as exc:
        return FaultyPicture(f"{file.name}: {exc.strerror}")
    if len(body) > max_bytes:
        return FaultyPicture(f"{file.name}: over {max_bytes} bytes (max_frame_bytes)")
    return JpegPicture(body)


def _video(path: Path) -> tuple[Callable[[], Iterator[Picture]], float]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise StreamFault("it is no video that can be read" if path.exists() else "there is no such file")
        announced = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()

    def play() -> Iterator[Picture]:
        playing = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, ONE_THREAD)
        try:
            while playing.grab():
                yield VideoPicture(playing)
        finally:
            playing.release()

    return play, announced if _FPS[0] <= announced <= _FPS[1] else _USUAL_FPS
