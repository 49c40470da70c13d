"""A camera's configuration: what is wrong is named, with what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import PydanticUndefined

from contract.clips import CLIP
from contract.config import ConfigError, parse_config
from edge.config import AgentConfig
from edge.sources import CameraConfig
from edge.sources.base import Place
from edge.sources.camera.child import settings_of
from edge.sources.camera.config import ClipsConfig, MotionConfig, TamperConfig, ZoneConfig
from edge.sources.camera.scene_config import LearnConfig, SceneConfig
from edge.vision.settings import Settings
from edge.vision.tamper import Tamper

if TYPE_CHECKING:
    from pydantic import BaseModel

PAGE = (Path(__file__).parents[3] / "docs" / "sources" / "camera.md").read_text(encoding="utf-8")
TRIANGLE = [[0, 0], [1, 0], [0.5, 1]]


def parsed(**keys: Any) -> CameraConfig:
    document = {"type": "camera", "name": "gate", "interval_s": 1} | keys
    return parse_config({key: value for key, value in document.items() if value is not None}, CameraConfig, "edge.yaml")


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "exactly one of url, device and file is needed, given: none"),
        ({"url": "http://camera/x", "file": "x.avi"}, "given: url, file"),
        ({"url": "http://camera/x", "loop": True}, "loop, playback and file_fps go with file only"),
        ({"device": "/dev/video0", "playback": "polled"}, "go with file only"),
        ({"device": "/dev/video0", "username": "ada"}, "username goes with url only"),
        ({"url": "http://camera/x", "keyframes_only": True}, "keyframes_only goes with an rtsp"),
        ({"url": "http://camera/x", "playback": "fast"}, "playback: found 'fast', allowed: 'rate' or 'polled'"),
        ({"url": "http://camera/x", "max_fps": 0}, "max_fps: found 0, allowed: greater than 0"),
        (
            {"url": "http://camera/x", "max_memory_mb": 16},
            "max_memory_mb: found 16, allowed: greater than or equal to 96",
        ),
        ({"url": "http://camera/x", "cpu_percent": 200}, "cpu_percent: found 200, allowed: less than or equal to 100"),
        ({"url": "http://camera/x", "zones": [{"name": "a", "polygon": TRIANGLE}] * 2}, "given more than once: a"),
        ({"url": "http://camera/x", "zones": [{"name": "a/b", "polygon": TRIANGLE}]}, "zones.0.name"),
        ({"url": "http://camera/x", "zones": [{"name": "a", "polygon": TRIANGLE[:2]}]}, "at least 3"),
        ({"url": "http://camera/x", "zones": [{"name": "a", "polygon": [[0, 0], [640, 0], [0, 480]]}]}, "equal to 1"),
        ({"url": "http://camera/x", "masks": [[[0, 0], [1, -1], [0, 1]]]}, "masks.0.1.1"),
        ({"url": "http://camera/x", "clips": {"max_frame_bytes": 1 << 20}}, "less than or equal to 524288"),
        ({"url": "http://camera/x", "clips": {"max_event_bytes": 3000}}, "max_frame_bytes <= max_event_bytes"),
        ({"url": "http://camera/x", "clips": {"triggers": []}}, "clips.triggers"),
        ({"url": "http://camera/x", "clips": {"triggers": ["fire"]}}, "'motion', 'tamper' or 'scene'"),
        ({"url": "http://camera/x", "clips": {"frames": 3}}, "clips.frames: is not a known key"),
        ({"url": "ftp://camera/x"}, "SCHEME"),
        ({"url": "http://admin:pw@camera/x"}, "do not stand in the URL"),
        ({"url": "http://camera/x", "password_env": "X"}, "needs a user"),
        ({"url": "http://camera/x", "interval_s": 0}, "interval_s"),
        ({"url": "http://camera/x", "max_frame_bytes": 10}, "max_frame_bytes"),
        ({"url": "http://camera/x", "scene": {}}, "allowed is model, learn or both"),
        ({"url": "http://camera/x", "scene": {"learn": {}}}, "scene.learn.quiet_hours: is missing"),
        ({"url": "http://camera/x", "scene": {"learn": {"quiet_hours": "22-5"}}}, "allowed is HH:MM-HH:MM"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        parsed(**keys)


def test_each_zone_has_its_metrics_and_its_bounds_or_those_of_motion() -> None:
    zones = [
        {"name": "gate", "polygon": TRIANGLE, "min_fraction": 0.1, "min_s": 0},
        {"name": "lawn", "polygon": TRIANGLE},
    ]
    config = parsed(url="rtsp://camera/x", zones=zones, motion={"min_fraction": 0.02, "min_s": 3, "clear_s": 9})
    assert [metric.name for metric in config.metrics()] == [
        *("brightness", "sharpness", "motion", "motion_active", "gate/motion", "gate/motion_active"),
        *("lawn/motion", "lawn/motion_active", "scene_score", "tamper"),
    ]
    areas = settings_of(config, None).motion.areas
    assert {name: (area.min_fraction, area.min_s, area.clear_s) for name, area in areas.items()} == {
        "": (0.02, 3, 9),
        "gate": (0.1, 0, 9),
        "lawn": (0.02, 3, 9),
    }


def test_the_process_is_told_all_of_it_in_one_line() -> None:
    config = parsed(url="http://camera/x", zones=[{"name": "gate", "polygon": TRIANGLE}], masks=[TRIANGLE], clips={})
    line = settings_of(config, "s3cret").to_json()
    assert line.count(b"\n") == 1
    told = Settings.from_json(line)
    assert told.to_json() == line
    assert told.password == "s3cret"
    assert told.clips is not None
    assert told.clips.triggers == ["motion", "tamper"]


def test_check_tells_what_watching_takes_and_what_leaves_the_device() -> None:
    lines = parsed(url="http://camera/x", max_fps=2, clips={"triggers": ["motion"]}).explain()
    assert lines == [
        "measures one frame each 1 s and looks at 2 frames a second",
        "its process takes at most 50 % of one core and 256 MiB",
        "clips of motion leave the device, at most 4 MiB an hour",
    ]


@pytest.mark.parametrize("model", [MotionConfig, ZoneConfig, TamperConfig, ClipsConfig, SceneConfig, LearnConfig])
def test_every_key_is_described_and_stands_on_the_page(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert re.search(rf"\b{name}\b", PAGE), name
        assert field.description, name


@pytest.mark.parametrize(
    ("model", "of"),
    [(MotionConfig, "motion"), (TamperConfig, "tamper"), (ClipsConfig, "clips"), (LearnConfig, "learn")],
)
def test_the_defaults_on_the_page_are_the_defaults(model: type[BaseModel], of: str) -> None:
    _, table = PAGE.split(f"| key of `{of}` | default | |\n|---|---|---|\n")
    rows = [row.strip("|").split("|")[:2] for row in table.split("\n\n")[0].splitlines()]
    told = {
        name: value.strip()
        for names, values in rows
        for name, value in zip(re.findall(r"`(\w+)`", names), _values(names, values), strict=True)
    }
    assert told == {name: _shown(field.default) for name, field in model.model_fields.items()}


def _values(names: str, values: str) -> list[str]:
    return values.split(",") if names.count("`") > 2 else [values]


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ", ".join(default) if isinstance(default, tuple) else f"{default:g}" if default < 1e6 else str(default)


def test_a_camera_with_a_model_tells_of_it_and_one_that_learns_says_what_leaves() -> None:
    trained = parsed(url="http://camera/x", scene={"model": "/models/gate"})
    assert {"scene_anomaly", "scene_model/version", "scene_model/state"} <= {each.name for each in trained.metrics()}
    assert trained.explain()[-2:] == [
        "scene_score is told by the model in /models/gate in its hours",
        "no picture leaves the device (no clips)",
    ]
    learns = parsed(url="http://camera/x", scene={"learn": {"quiet_hours": "22:00-05:00"}})
    assert [each.name for each in learns.metrics()][-1] == CLIP
    leaves = "500 pictures of 96 x 96 leave the device to learn from, one each 60 s in 22:00-05:00 UTC"
    assert learns.explain()[-1] == f"{leaves}, at most 1 MiB an hour"


def test_an_agents_camera_knows_where_it_stands() -> None:
    camera = {"type": "camera", "name": "gate", "interval_s": 1, "url": "http://camera/x"}
    agent = {"group": "demo", "node": "edge-1", "state_dir": "/state", "mqtt": {"host": "broker"}, "sources": [camera]}
    first, same, moved = (
        parse_config(agent | {"state_dir": state}, AgentConfig, "edge.yaml") for state in ("/state", "/state", "/other")
    )
    (gate,) = first.sources
    assert isinstance(gate, CameraConfig)
    assert gate.kept.place == Place("demo", "edge-1", Path("/state"), first.inference)
    assert gate == same.sources[0], "or each reload would open the camera anew"
    assert gate != moved.sources[0]


def test_every_kind_of_tampering_stands_on_the_page() -> None:
    for kind in [*Tamper, "lost"]:
        assert f"| `{kind}` |" in PAGE
