"""Event clips of cameras: a few JPEG frames around an incident, each a metric of its own in the camera's DDATA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Metric, Property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.datatypes import Scalar

CLIP: Final = "Headwater/Clip"
# With room for names below the megabyte that a broker or bridge takes by default.
MAX_JPEG_BYTES: Final = 512 * 1024
MAX_FRAMES: Final = 100
MAX_TEXT_CHARACTERS: Final = 100
_FIRST_BYTES: Final = b"\xff\xd8\xff"
_LAST_BYTES: Final = b"\xff\xd9"
_TYPES: Final = {
    "event": DataType.STRING,
    "kind": DataType.STRING,
    "frame": DataType.INT32,
    "frames": DataType.INT32,
    "started": DataType.DATETIME,
}


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame of an event's clip.

    `event_id` is unique in the camera, `frame_no` counts from 1, `frames` is how many the clip was planned with: fewer
    may come. `kind` is what set it off, `started_at_ms` (UTC) when. The metric's time is when the frame was taken.
    """

    event_id: str
    kind: str
    frame_no: int
    frames: int
    started_at_ms: int
    jpeg: bytes

    def properties(self) -> dict[str, Property]:
        """What stands beside the JPEG."""
        values: tuple[Scalar, ...] = (self.event_id, self.kind, self.frame_no, self.frames, self.started_at_ms)
        return {key: Property(datatype, value) for (key, datatype), value in zip(_TYPES.items(), values, strict=True)}

    def to_metric(self, sampled_at_ms: int) -> Metric:
        """The frame as a metric of the device's DDATA."""
        return Metric(CLIP, DataType.BYTES, self.jpeg, sampled_at_ms, properties=self.properties())

    @classmethod
    def from_metric(cls, metric: Metric) -> ClipFrame:
        """The frame in a metric called `CLIP`; raises CodecError when it is none."""
        if metric.datatype != DataType.BYTES or not isinstance(metric.value, bytes):
            raise CodecError(f"{CLIP} of type {metric.datatype.name}: allowed is a JPEG as BYTES")
        _check_jpeg(metric.value)
        event_id, kind, frame_no, frames, started_at_ms = _found(metric.properties)
        match (event_id, kind, frame_no, frames, started_at_ms):
            case (str(event_id), str(kind), int(frame_no), int(frames), int(started_at_ms)):
                _check_text("event", event_id)
                _check_text("kind", kind)
                if not 1 <= frame_no <= frames <= MAX_FRAMES:
                    raise CodecError(f"{CLIP} frame {frame_no} of {frames}: allowed are 1 to {MAX_FRAMES}")
                return cls(event_id, kind, frame_no, frames, started_at_ms, metric.value)
            case found:
                raise CodecError(f"{CLIP} with {found}: needed are {', '.join(_TYPES)}")


def _found(properties: Mapping[str, Property]) -> list[object]:
    """The properties' values in the order of `_TYPES`, None for one that is missing or of another type."""
    found = [(properties.get(key), datatype) for key, datatype in _TYPES.items()]
    return [prop.value if prop and prop.datatype == datatype else None for prop, datatype in found]


def _check_jpeg(jpeg: bytes) -> None:
    if len(jpeg) > MAX_JPEG_BYTES:
        raise CodecError(f"{CLIP} of {len(jpeg)} bytes: allowed are {MAX_JPEG_BYTES}")
    if not jpeg.startswith(_FIRST_BYTES) or not jpeg.endswith(_LAST_BYTES):
        raise CodecError(f"{CLIP} of {len(jpeg)} bytes is no whole JPEG")


def _check_text(key: str, text: str) -> None:
    if not 1 <= len(text) <= MAX_TEXT_CHARACTERS or not text.isprintable():
        raise CodecError(f"{CLIP} {key} {text[:40]!r}: allowed are 1 to {MAX_TEXT_CHARACTERS} printable characters")
