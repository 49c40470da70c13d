"""A camera's model before it is served: what is refused, with which reason, and what comes back."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edge.models import InferenceConfig
from edge.sources.camera.scene import NONE, STATE, VERSION, SceneModels

if TYPE_CHECKING:
    from pathlib import Path

    from edge.sources.base import Place

SERIES = {"output": {"kind": "anomaly", "score": "direct", "threshold": 1}}


def looked(directory: Path, place: Place | None) -> SceneModels:
    models = SceneModels(directory, "gate", place)
    asyncio.run(models.look())
    return models


def test_an_empty_directory_is_no_fault(tmp_path: Path, place: Place) -> None:
    for directory in (tmp_path, tmp_path / "not there yet"):
        models = looked(directory, place)
        assert (models.state, models.version, models.refused, models.settings) == (NONE, NONE, None, None)


@pytest.mark.parametrize(
    ("net", "changes", "complaint"),
    [
        ("flat", {"camera": "demo/edge-2/gate"}, "was trained for demo/edge-2/gate, this is demo/edge-1/gate"),
        ("small", {}, "1.tflite: takes 1 x 64 x 64 x 1, the manifest says 1 x 96 x 96 x 1"),
        ("no model", {}, "1.tflite: "),
        ("flat", SERIES, "output.kind: found 'anomaly': a model of series, allowed here: scene"),
        ("flat", {"side": 64}, "side: found 64, allowed: 96"),
        ("flat", {"format": 2}, "format: found 2"),
    ],
)
def test_what_is_refused_says_why(
    net: str, changes: dict[str, Any], complaint: str, *, tmp_path: Path, place: Place, put_scene: Any
) -> None:
    put_scene(tmp_path / "model", net, "1", **changes)
    models = looked(tmp_path / "model", place)
    assert models.settings is None
    assert models.state == "refused"
    assert complaint in (models.refused or "")


def test_a_file_that_is_not_the_manifests_is_refused(tmp_path: Path, place: Place, put_scene: Any) -> None:
    put_scene(tmp_path / "model", "flat", "1")
    with (tmp_path / "model" / "1.tflite").open("r+b") as file:
        file.seek(500)
        file.write(b"?")
    assert "its SHA-256 is" in (looked(tmp_path / "model", place).refused or "")


def test_what_nobody_trusted_has_signed_is_refused(tmp_path: Path, place: Place, put_scene: Any) -> None:
    put_scene(tmp_path / "model", "flat", "1")
    asks = replace(place, inference=InferenceConfig(trusted_keys=(tmp_path / "key.pem",)))
    assert "is not signed" in (looked(tmp_path / "model", asks).refused or "")


def test_a_model_is_taken_in_as_a_copy_of_our_own(tmp_path: Path, place: Place, put_scene: Any) -> None:
    put_scene(tmp_path / "model", "flat", "1")
    models = looked(tmp_path / "model", place)
    assert (models.state, models.version, models.refused) == ("waiting", "1", None)
    assert models.settings is not None
    assert models.settings.directory.startswith(str(place.state_dir))
    assert (models.settings.span_s, models.settings.clear) == (86_400, 0.4)
    told = [(reading.metric, reading.value) for reading in models.readings(1_000_000)]
    assert told == [(VERSION, "1"), (STATE, "waiting")]
    assert models.readings(1_001_000) == []
    assert len(models.readings(1_061_000)) == 2


def test_without_an_agent_it_is_run_from_where_it_lies(tmp_path: Path, put_scene: Any) -> None:
    put_scene(tmp_path / "model", "flat", "1", camera="any/where/gate")
    settings = looked(tmp_path / "model", None).settings
    assert settings is not None
    assert settings.directory == str(tmp_path / "model")


def test_a_refused_version_changes_nothing(tmp_path: Path, place: Place, put_scene: Any) -> None:
    async def go() -> None:
        put_scene(tmp_path / "model", "flat", "1")
        models = SceneModels(tmp_path / "model", "gate", place)
        await models.look()
        before = models.settings
        put_scene(tmp_path / "model", "small", "2")
        await models.look()
        assert models.settings == before
        assert models.version == "1"
        assert "64 x 64" in (models.refused or "")
        assert models.details()["scene_refused"] == models.refused

    asyncio.run(go())


def test_three_strikes_and_the_last_good_one_returns(tmp_path: Path, place: Place, put_scene: Any) -> None:
    async def go() -> None:
        put_scene(tmp_path / "model", "flat", "1")
        models = SceneModels(tmp_path / "model", "gate", place)
        await models.look()
        assert models.settings is not None
        first = models.settings.key
        await models.heard({"key": first, "state": "ok", "reason": None})
        put_scene(tmp_path / "model", "nan-in-the-dark", "2")
        await models.look()
        assert models.version == "2"
        await models.heard({"key": first, "state": "failing", "reason": "of the one before, which says no more"})
        second = models.settings.key
        await models.heard({"key": second, "state": "failing", "reason": "its picture has no numbers"})
        await models.process_ended(-signal.SIGKILL)
        await models.process_ended(0)
        await models.process_ended(-signal.SIGSEGV)
        assert (models.state, models.reason) == ("failing", "it ended the camera's process: SIGSEGV")
        assert models.version == "2"
        await models.process_ended(-signal.SIGALRM)
        assert (models.state, models.version, models.settings) == ("quarantined", NONE, None)
        await models.look()
        assert (models.state, models.version) == ("waiting", "1")
        assert models.settings.key == first

        again = SceneModels(tmp_path / "empty", "gate", place)
        await again.look()
        assert again.version == "1", "after the agent was started again, too"

    asyncio.run(go())
