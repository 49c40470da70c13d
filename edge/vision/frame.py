"""A frame as it came, still encoded: decoded only where it is used."""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import cv2
import numpy as np

from edge.vision.clip import FrameTime, encode, shrunk_colour
from edge.vision.picture import FrameFault, decode_jpeg

if TYPE_CHECKING:
    from edge.vision.picture import Colour, Grey

# More only cost memory. OpenCV 4.6, which is Debian 12's for 32-bit ARM, cannot be told: it takes as many as it likes.
ONE_THREAD: Final = (cv2.CAP_PROP_N_THREADS, 1) if hasattr(cv2, "CAP_PROP_N_THREADS") else ()
# A frame in the ring is encoded again before it is sent: this one must not be what costs it its quality.
_RING_QUALITY: Final = 90
# How a key frame begins: a start code (H.264, H.265, MPEG-4), or a JPEG. FFmpeg goes by what the bytes look like, and
# would follow a playlist to any file of this machine.
_PACKET_STARTS: Final = (b"\0\0\1", b"\0\0\0\1", b"\xff\xd8")


class Picture(Protocol):
    """What can be had of a frame; both raise FrameFault."""

    def grey(self) -> Grey:
        """The grey image."""
        ...

    def jpeg(self, max_width: int) -> bytes:
        """A JPEG, made at most so wide where it has to be encoded."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture and its times; `media_ms` is its place in a file, from the file's first beginning on."""

    sampled_at_ms: int | None  # the camera's own time, if it sends one
    arrived_s: float  # monotonic
    picture: Picture
    media_ms: float | None = None

    @property
    def slot_time_ms(self) -> float:
        """The time that decides its slot."""
        if self.media_ms is not None:
            return self.media_ms
        return self.arrived_s * 1000 if self.sampled_at_ms is None else self.sampled_at_ms

    @property
    def taken(self) -> FrameTime:
        """When it was taken."""
        return FrameTime(self.sampled_at_ms, self.arrived_s)


@dataclass(frozen=True, slots=True)
class JpegPicture:
    """A JPEG as the camera or a file holds it."""

    body: bytes

    def grey(self) -> Grey:
        """Decoded straight to grey."""
        return decode_jpeg(self.body)

    def jpeg(self, max_width: int) -> bytes:  # noqa: ARG002 - nothing is encoded
        """The very bytes."""
        return self.body


@dataclass(frozen=True, slots=True)
class FaultyPicture:
    """A frame with a fault that was found before decoding."""

    fault: str

    def grey(self) -> NoReturn:
        """Raises the fault."""
        raise FrameFault(self.fault)

    def jpeg(self, max_width: int) -> NoReturn:  # noqa: ARG002 - as in Picture
        """Raises the fault."""
        raise FrameFault(self.fault)


class _ImagePicture:
    """A frame that is decoded to colour."""

    @cached_property
    def _image(self) -> Colour:
        found, image = self._decode()
        if not found:
            raise FrameFault("a frame cannot be decoded")
        return np.asarray(image, dtype=np.uint8)

    @abstractmethod
    def _decode(self) -> tuple[bool, Any]: ...

    def grey(self) -> Grey:
        """The image in grey."""
        return np.asarray(cv2.cvtColor(self._image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)

    def jpeg(self, max_width: int) -> bytes:
        """Encoded for the ring."""
        return encode(shrunk_colour(self._image, max_width), _RING_QUALITY)


class VideoPicture(_ImagePicture):
    """The frame that a capture holds now: to be used before the next one is grabbed."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def _decode(self) -> tuple[bool, Any]:
        return self._capture.retrieve()


class PacketPicture(_ImagePicture):
    """A key frame as the encoder made it, with what its decoder needs to begin."""

    def __init__(self, packet: bytes) -> None:
        self._packet = packet

    def _decode(self) -> tuple[bool, Any]:
        if not self._packet.startswith(_PACKET_STARTS):
            raise FrameFault("a key frame is no video")
        # OpenCV decodes files; this one is in memory alone.
        with os.fdopen(os.memfd_create("key frame"), "wb") as file:
            file.write(self._packet)
            file.flush()
            capture = cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}", cv2.CAP_FFMPEG, ONE_THREAD)
            try:
                return capture.read()
            finally:
                capture.release()
