from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.clips import CLIP, MAX_FRAMES, MAX_JPEG_BYTES, ClipFrame
from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Metric, Payload, Property, decode, encode

NOW = 1_700_000_000_000
JPEG = b"\xff\xd8\xff\xe0 a picture \xff\xd9"
FRAME = ClipFrame("1700000000000-motion", "motion", 2, 6, NOW, JPEG)
TEXTS = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=100)


@given(
    event_id=TEXTS,
    kind=TEXTS,
    frames=st.integers(1, MAX_FRAMES),
    started_at_ms=st.integers(0, 2**53),
    picture=st.binary(max_size=100),
    data=st.data(),
)
def test_a_frame_comes_through_the_wire(
    event_id: str, kind: str, frames: int, started_at_ms: int, picture: bytes, data: st.DataObject
) -> None:
    number = data.draw(st.integers(1, frames))
    frame = ClipFrame(event_id, kind, number, frames, started_at_ms, b"\xff\xd8\xff" + picture + b"\xff\xd9")
    (metric,) = decode(encode(Payload(NOW, (frame.to_metric(NOW),), seq=0))).metrics
    assert (metric.name, metric.timestamp_ms) == (CLIP, NOW)
    assert ClipFrame.from_metric(metric) == frame


def test_the_largest_frame_is_taken_and_one_byte_more_is_not() -> None:
    jpeg = JPEG[:3] + b"x" * (MAX_JPEG_BYTES - 5) + JPEG[-2:]
    assert ClipFrame.from_metric(replace(FRAME, jpeg=jpeg).to_metric(NOW)).jpeg == jpeg
    with pytest.raises(CodecError, match=f"{MAX_JPEG_BYTES + 1} bytes: allowed are {MAX_JPEG_BYTES}"):
        ClipFrame.from_metric(replace(FRAME, jpeg=jpeg[:-2] + b"x" + jpeg[-2:]).to_metric(NOW))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"jpeg": b"GIF89a"}, "no whole JPEG"),
        ({"jpeg": JPEG[:-1]}, "no whole JPEG"),
        ({"jpeg": b""}, "no whole JPEG"),
        ({"frame_no": 0}, "frame 0 of 6"),
        ({"frame_no": 7}, "frame 7 of 6"),
        ({"frames": MAX_FRAMES + 1}, "frame 2 of 101"),
        ({"event_id": ""}, "event"),
        ({"event_id": "x" * 101}, "event"),
        ({"kind": "a\0b"}, "kind"),
    ],
)
def test_a_frame_that_is_none_is_told(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CodecError, match=complaint):
        ClipFrame.from_metric(replace(FRAME, **changes).to_metric(NOW))


@pytest.mark.parametrize("missing", ["event", "kind", "frame", "frames", "started"])
def test_every_property_is_needed_in_its_own_type(missing: str) -> None:
    properties = FRAME.properties()
    for others in (
        {key: prop for key, prop in properties.items() if key != missing},
        properties | {missing: Property(DataType.BOOLEAN, value=True)},
    ):
        with pytest.raises(CodecError, match="needed are event, kind"):
            ClipFrame.from_metric(replace(FRAME.to_metric(NOW), properties=others))


@pytest.mark.parametrize("metric", [Metric(CLIP, DataType.BYTES, None, NOW), Metric(CLIP, DataType.STRING, "x", NOW)])
def test_a_clip_without_bytes_is_none(metric: Metric) -> None:
    with pytest.raises(CodecError, match="allowed is a JPEG as BYTES"):
        ClipFrame.from_metric(metric)
