"""Clips: a few JPEGs from before, during and after an incident, bounded in bytes. Pure but for the encoder."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2

from edge.vision.picture import FrameFault, decode_colour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge.vision.picture import Colour
    from edge.vision.settings import ClipSettings

# An incident that does not end gets its last frames after so long.
_LONGEST_S: Final = 60.0
_QUALITIES: Final = (60, 45, 30)
_HALVINGS: Final = 3


@dataclass(frozen=True, slots=True)
class FrameTime:
    """When a frame was taken: by the camera's clock (UTC ms) if it tells, and when it arrived (monotonic)."""

    sampled_at_ms: int | None
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame of a clip: number `frame_no` of `frames`; `event` counts the events of this process."""

    event: int
    kind: str
    frame_no: int
    frames: int
    started: FrameTime
    taken: FrameTime
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    at_s: float
    taken: FrameTime
    jpeg: bytes


class Ring:
    """The newest JPEGs, bounded in number and in bytes."""

    def __init__(self, frames: int, max_bytes: int) -> None:
        self._kept: deque[_Kept] = deque(maxlen=frames)
        self._max_bytes = max_bytes

    @property
    def size_bytes(self) -> int:
        """What they take."""
        return sum(len(one.jpeg) for one in self._kept)

    def add(self, one: _Kept) -> None:
        """Keep one, and drop the oldest that then do not fit."""
        self._kept.append(one)
        while self._kept and self.size_bytes > self._max_bytes:
            self._kept.popleft()

    def take(self) -> list[_Kept]:
        """All of them, the oldest first; the ring is then empty."""
        found = list(self._kept)
        self._kept.clear()
        return found


@dataclass(slots=True)
class _Event:
    number: int
    kind: str
    started_s: float
    started: FrameTime
    frames: int
    during_left: int
    after_left: int
    is_over: bool = False
    sent: int = 0
    sent_bytes: int = 0


class Recorder:
    """Follows the incidents of a camera and makes their clips, one at a time.

    What begins while an incident's first frames are taken is in the same clip; what begins later has one of its own.
    """

    def __init__(self, settings: ClipSettings) -> None:
        self._settings = settings
        self._ring = Ring(settings.before, settings.ring_bytes)
        self._event: _Event | None = None
        self._events = 0
        self._ongoing: frozenset[str] = frozenset()
        self._last_s: float | None = None
        self.left_out = 0
        """Frames that were not sent because they, or the event's, would have been too many bytes."""

    def look(
        self, at_s: float, taken: FrameTime, jpeg: Callable[[], bytes], incidents: Sequence[str]
    ) -> Iterator[Shot]:
        """What is to be sent of a frame, and of those before it; `jpeg` encodes it, and is asked only where needed."""
        begun = [kind for kind in incidents if kind not in self._ongoing]
        self._ongoing = frozenset(incidents)
        if begun and (self._event is None or not self._event.during_left):
            yield from self._begin(begun[0], _Kept(at_s, taken, jpeg()))
        elif self._last_s is None or at_s - self._last_s >= self._settings.spacing_s or at_s < self._last_s:
            yield from self._go_on(at_s, taken, jpeg)

    def _begin(self, kind: str, now: _Kept) -> Iterator[Shot]:
        self._events += 1
        before = self._ring.take()
        frames = len(before) + self._settings.during + self._settings.after
        self._event = _Event(
            self._events, kind, now.at_s, now.taken, frames, self._settings.during - 1, self._settings.after
        )
        self._last_s = now.at_s
        for one in (*before, now):
            yield from self._send(self._event, one)
        self._close_if_done()

    def _go_on(self, at_s: float, taken: FrameTime, jpeg: Callable[[], bytes]) -> Iterator[Shot]:
        self._last_s = at_s
        event = self._event
        if event is not None and (not self._ongoing or at_s - event.started_s >= _LONGEST_S):
            event.during_left, event.is_over = 0, True
        if event is not None and event.during_left:
            event.during_left -= 1
            yield from self._send(event, _Kept(at_s, taken, jpeg()))
        elif event is not None and event.is_over and event.after_left:
            event.after_left -= 1
            yield from self._send(event, _Kept(at_s, taken, jpeg()))
        elif self._settings.before:
            self._ring.add(_Kept(at_s, taken, jpeg()))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._event is not None and not (self._event.during_left or self._event.after_left):
            self._event = None

    def _send(self, event: _Event, one: _Kept) -> Iterator[Shot]:
        event.sent += 1
        jpeg = bounded(one.jpeg, self._settings)
        if jpeg is None or event.sent_bytes + len(jpeg) > self._settings.max_event_bytes:
            self.left_out += 1
            return
        event.sent_bytes += len(jpeg)
        yield Shot(event.number, event.kind, event.sent, event.frames, event.started, one.taken, jpeg)


def bounded(jpeg: bytes, settings: ClipSettings) -> bytes | None:
    """A JPEG as it may leave: no wider, no larger, and nothing in it but the picture; None where that cannot be."""
    try:
        image = shrunk_colour(decode_colour(jpeg), settings.max_width)
    except FrameFault:
        return None
    for _ in range(_HALVINGS):
        for quality in (settings.quality, *(lower for lower in _QUALITIES if lower < settings.quality)):
            encoded = encode(image, quality)
            if len(encoded) <= settings.max_frame_bytes:
                return encoded
        image = shrunk_colour(image, max(1, image.shape[1] // 2))
    return None


def encode(image: Colour, quality: int) -> bytes:
    """The image as a JPEG."""
    _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return encoded.tobytes()


def shrunk_colour(image: Colour, max_width: int) -> Colour:
    """The image, at most so wide."""
    height, width = image.shape[:2]
    if width <= max_width:
        return image
    size = (max_width, max(1, round(height * max_width / width)))
    shrunk: Colour = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(image.dtype)
    return shrunk
