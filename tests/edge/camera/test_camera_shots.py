"""What the agent makes of the shots that a camera's process tells: readings named, timed and counted by itself."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.clips import ClipFrame
from edge.cli.poll_once import _poll_rows
from edge.polling import Poll
from edge.sources.camera.clips import ClipReader, HourOfBytes

if TYPE_CHECKING:
    from collections.abc import Mapping

JPEG = b"\xff\xd8\xff" + bytes(93) + b"\xff\xd9"


def shot(event: int, frame_no: int = 1, **changes: Any) -> dict[str, Any]:
    when = {"sampled_at_ms": 1_700_000_000_000}
    told = {"event": event, "kind": "motion", "frame_no": frame_no, "frames": 3, "started": when, "taken": when}
    return told | {"jpeg": base64.b64encode(JPEG).decode()} | changes


def at_ms(when: Mapping[str, Any]) -> int:
    return int(when["sampled_at_ms"])


def reader(hour: HourOfBytes | None = None, max_hour_bytes: int = 10_000) -> ClipReader:
    return ClipReader(hour or HourOfBytes(), max_hour_bytes, at_ms)


def frame_of(clips: ClipReader, told: Mapping[str, Any]) -> ClipFrame:
    reading = clips.reading(told)
    assert reading is not None
    assert reading.properties is not None
    values = {key: found.value for key, found in reading.properties.items()}
    return ClipFrame(values["event"], values["kind"], values["frame"], values["frames"], values["started"], JPEG)


def test_the_frames_of_an_event_have_its_id_and_no_other_event_has_it() -> None:
    clips = reader()
    ids = [frame_of(clips, shot(event, frame_no)).event_id for event in (1, 2) for frame_no in (1, 2)]
    assert ids[0] == ids[1] != ids[2] == ids[3]


def test_a_process_started_again_with_the_same_clock_makes_other_ids() -> None:
    assert frame_of(reader(), shot(1)).event_id != frame_of(reader(), shot(1)).event_id


def test_a_process_started_again_has_no_new_hour(cameras: Any) -> None:
    config = cameras.config(url="http://camera/x", clips={})
    first, second = reader(config.kept.hour, 250), reader(config.kept.hour, 250)
    assert [first.reading(shot(1, n)) is None for n in (1, 2, 3)] == [False, False, True]
    assert second.reading(shot(1)) is None
    assert (first.left_out, second.left_out) == (1, 1)


def test_what_was_sent_makes_no_other_configuration(cameras: Any) -> None:
    one, same = (cameras.config(url="http://camera/x", clips={}) for _ in range(2))
    assert one.kept.hour.take(100, 1000, 0.0)
    assert one == same, "or each reload would open the camera anew"


def test_a_terminal_is_shown_no_picture() -> None:
    reading = reader().reading(shot(1))
    assert reading is not None
    ((_, value, *_),) = _poll_rows(Poll("gate", [reading], 0, 0))
    assert value == "98 bytes"


@given(steps=st.lists(st.tuples(st.floats(0, 1800), st.integers(1, 500)), max_size=60), most=st.integers(100, 2000))
def test_no_hour_takes_more_than_its_bytes(steps: list[tuple[float, int]], most: int) -> None:
    hour, at_s = HourOfBytes(), 0.0
    sent: list[tuple[float, int]] = []
    for step_s, size in steps:
        at_s += step_s
        before = sum(taken for then, taken in sent if at_s - then < 3600)
        taken = hour.take(size, most, at_s)
        assert taken == (before + size <= most)
        sent += [(at_s, size)] if taken else []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://camera:554/live?user=ada&password=s3cret", "rtsp://camera:554/live"),
        ("http://camera/?action=stream", "http://camera/"),
    ],
)
def test_no_message_shows_the_query_in_which_a_password_may_stand(url: str, shown: str, cameras: Any) -> None:
    assert cameras.config(url=url).origin == shown
