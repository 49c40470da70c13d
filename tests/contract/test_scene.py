"""The manifest of a camera's model, and what is said of the pictures that it is trained on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.config import ConfigError
from contract.manifest import Manifest, parse_manifest
from contract.scene import DAY_S, SceneManifest, event_of, parse_any, parse_scene, session_of, span_of

SCENE: dict[str, Any] = {
    "format": 1,
    "name": "scene-gate",
    "version": "1.0.0",
    "camera": "demo/edge-1/gate",
    "quiet_hours": "22:00-05:00",
    "side": 96,
    "output": {"kind": "scene", "usual": 12.5, "threshold": 1.2, "clear": 0.8},
    "files": [{"form": "int8", "file": "int8.tflite", "sha256": "a" * 64, "size_bytes": 10}],
}
SERIES = {
    "format": 1,
    "name": "level",
    "version": "1",
    "inputs": [{"name": "level"}],
    "features": [{"name": "level", "of": ["level"]}],
    "window": {"length": 4, "step_s": 1},
    "output": {"kind": "anomaly", "score": "direct", "threshold": 1},
    "files": SCENE["files"],
}


def text(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_a_scene_manifest_is_read_as_it_was_written() -> None:
    found = parse_scene(text(SCENE), "manifest.json")
    assert parse_scene(found.model_dump_json().encode(), "again") == found
    assert (found.camera, found.output.usual) == ("demo/edge-1/gate", 12.5)
    assert [each.form for each in found.tflite_files] == ["int8"]


def test_the_two_kinds_are_told_apart_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^m: output.kind: found 'scene': a camera's model, allowed here: forecast"):
        parse_manifest(text(SCENE), "m")
    with pytest.raises(ConfigError, match=r"^m: output.kind: found 'anomaly': a model of series, allowed here: scene$"):
        parse_scene(text(SERIES), "m")
    assert type(parse_any(text(SCENE), "m")) is SceneManifest
    assert type(parse_any(text(SERIES), "m")) is Manifest


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"side": 64}, "side: found 64, allowed: 96"),
        ({"camera": "gate"}, "camera: found 'gate'"),
        ({"quiet_hours": "22-5"}, "allowed is HH:MM-HH:MM"),
        ({"quiet_hours": "05:00-05:00"}, "is no time at all"),
        ({"output": SCENE["output"] | {"clear": 2}}, "clear is 2: allowed is at most the threshold, 1.2"),
        ({"output": SCENE["output"] | {"usual": -1}}, "output.usual"),
        ({"output": SCENE["output"] | {"kind": "picture"}}, "output.kind: found 'picture', allowed: 'scene'"),
        ({"files": SCENE["files"] * 2}, "files must be unique"),
        ({"window": {}}, "window: is not a known key"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scene(text(SCENE | change), "m")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b" " * 70_000, b"[" * 60_000, b"\xff"])
def test_what_is_no_manifest_is_one_line(content: bytes) -> None:
    for parse in (parse_scene, parse_any):
        with pytest.raises(ConfigError, match=r"^m: "):
            parse(content, "m")


@pytest.mark.parametrize(
    ("hours", "begin_s", "span_s"),
    [
        ("22:00-05:00", 79_200, 25_200),
        ("05:30-06:00", 19_800, 1800),
        ("00:00-24:00", 0, DAY_S),
        ("12:00-24:00", 43_200, 43_200),
    ],
)
def test_hours_may_pass_midnight(hours: str, begin_s: int, span_s: int) -> None:
    assert span_of(hours) == (begin_s, span_s)


@pytest.mark.parametrize("hours", ["", "24:00-05:00", "1:00-2:00", "00:00-25:00", "22:00-05:00 CET", "22:60-23:00"])
def test_hours_that_are_none_are_refused(hours: str) -> None:
    with pytest.raises(ValueError, match="allowed is"):
        span_of(hours)


def test_samples_say_of_which_session_they_are() -> None:
    assert session_of(event_of(1_795_305_600_000, 3)) == 1_795_305_600_000
    for other in ("1795305600000-ab12cd34-1", "scene-x-1", "scene-1", f"scene-{'9' * 40}-1", ""):
        assert session_of(other) is None
