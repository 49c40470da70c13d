"""Samples as the agent sends them: numbered, bounded, counted over restarts, and the last one a request."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from contract.clips import CLIP, ClipFrame
from contract.scene import REQUEST, SAMPLE, session_of
from contract.sparkplug import Metric
from edge.sources.camera.learning import Learning
from edge.sources.camera.scene_config import LearnConfig

if TYPE_CHECKING:
    from pathlib import Path

    from edge.reading import Reading

JPEG = b"\xff\xd8\xff" + bytes(100) + b"\xff\xd9"
T0_MS = 1_800_000_000_000


def config(**keys: Any) -> LearnConfig:
    return LearnConfig.model_validate({"quiet_hours": "22:00-05:00", "samples": 20, "every_s": 60} | keys)


def offered(learning: Learning, at_s: float) -> Reading | None:
    told = {"taken": {"sampled_at_ms": T0_MS + round(1000 * at_s)}, "jpeg": base64.b64encode(JPEG).decode()}
    return learning.reading(told, lambda taken: taken["sampled_at_ms"])


def frames(readings: list[Reading | None]) -> list[ClipFrame]:
    """As the stream reads them."""
    return [
        ClipFrame.from_metric(Metric(CLIP, one.datatype, one.value, one.sampled_at_ms, properties=one.properties or {}))
        for one in readings
        if one is not None
    ]


def test_the_last_sample_is_the_request_and_no_more_are_sent() -> None:
    learning = Learning(config(), (), None)
    found = frames([offered(learning, 60 * n) for n in range(30)])
    assert [frame.kind for frame in found] == [SAMPLE] * 19 + [REQUEST]
    assert [(frame.frame_no, frame.frames) for frame in found] == [(n + 1, 20) for n in range(20)]
    assert {session_of(frame.event_id) for frame in found} == {T0_MS}
    assert learning.is_complete
    assert learning.settings is None


def test_more_than_a_clip_holds_are_parts_of_a_session() -> None:
    found = frames(
        [offered(learning, 60 * n) for learning in [Learning(config(samples=130), (), None)] for n in range(130)]
    )
    assert [(frame.frame_no, frame.frames) for frame in found[98:102]] == [(99, 100), (100, 100), (1, 30), (2, 30)]
    assert len({(frame.event_id, frame.frame_no) for frame in found}) == 130
    assert {session_of(frame.event_id) for frame in found} == {T0_MS}
    assert found[100].started_at_ms == T0_MS + 100 * 60_000, "a part's own: one begun a year ago would be refused"


def test_an_agent_that_is_started_again_counts_on(tmp_path: Path) -> None:
    file = tmp_path / "scenes" / "gate.json"
    before = frames([offered(Learning(config(), (), file), 60 * n) for n in range(12)])
    after = frames([offered(Learning(config(), (), file), 60 * n) for n in range(12, 30)])
    assert [frame.frame_no for frame in before + after] == list(range(1, 21))
    assert after[-1].kind == REQUEST
    assert len({frame.event_id for frame in before + after}) == 1
    assert Learning(config(), (), file).is_complete


def test_a_process_started_again_does_not_send_sooner(tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    assert offered(Learning(config(), (), file), 0) is not None
    assert offered(Learning(config(), (), file), 20) is None
    assert offered(Learning(config(), (), file), 59) is not None
    assert offered(Learning(config(), (), file), -9999) is not None, "a clock that was set back"


@pytest.mark.parametrize("change", [{"round": 2}, {"quiet_hours": "23:00-05:00"}, {"samples": 21}])
def test_another_wish_begins_anew(change: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    assert offered(Learning(config(), (), file), 0) is not None
    assert Learning(config(max_hour_bytes=9000), (), file).sent == 1
    assert Learning(config(**change), (), file).sent == 0
    assert Learning(config(), (((0, 0), (1, 0), (1, 1)),), file).sent == 0, "with other places blank"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"of": 1}', "[" * 5000])
def test_a_count_that_cannot_be_read_begins_anew(content: str, tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    file.write_text(content)
    assert Learning(config(), (), file).sent == 0
    learning = Learning(config(), (), file)
    assert offered(learning, 0) is not None
    document = json.loads(file.read_text())
    for wrong in (True, "5", -1, None):
        file.write_text(json.dumps(document | {"sent": wrong}))
        assert Learning(config(), (), file).sent == 0


def test_a_count_that_cannot_be_kept_is_no_end(tmp_path: Path) -> None:
    (tmp_path / "scenes").write_text("a file where a directory should be")
    learning = Learning(config(), (), tmp_path / "scenes" / "gate.json")
    assert len(frames([offered(learning, 60 * n) for n in range(3)])) == 3


def test_no_hour_takes_more_than_its_bytes() -> None:
    learning = Learning(config(samples=200, max_hour_bytes=8192), (), None)
    assert len(frames([offered(learning, 60 * n) for n in range(150)])) == 8192 // len(JPEG)
