from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pytest

from contract.card import MAX_MODEL_BYTES
from contract.manifest import Feature, Manifest, ModelInput, Window, parse_manifest
from models.errors import ModelsError
from models.package import files_of, manifest_bytes, version_of, write_package

if TYPE_CHECKING:
    from pathlib import Path

TRAINED_AT = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=1)))


def card(version: str = "1", **more: object) -> Manifest:
    return Manifest.model_validate(
        {
            "format": 1,
            "name": "pump",
            "version": version,
            "files": tuple(file for file, _ in files_of({"int8": version.encode()}, b"keras").values()),
            "inputs": (ModelInput(name="speed", hold_s=0.1 + 0.2),),
            "features": (Feature(name="speed", of=("speed",), mean=1 / 3),),
            "window": Window(length=4, step_s=1),
            "output": {"kind": "anomaly", "score": "reconstruction", "threshold": 1.5},
            **more,
        }
    )


def write(place: Path, version: str) -> None:
    write_package(place, card(version), {"int8.tflite": version.encode(), "model.keras": b"keras"}, None)


def test_a_version_is_of_its_time_and_of_its_weights() -> None:
    weights = [np.arange(6, dtype=np.float32), np.ones(2, np.float32)]
    version = version_of(TRAINED_AT, weights)
    assert version[:14] == "20260102.0204-"
    assert version_of(TRAINED_AT, weights) == version
    assert version_of(TRAINED_AT, [weights[0] + 1e-6, weights[1]]) != version


def test_a_manifest_is_read_as_it_was() -> None:
    assert parse_manifest(manifest_bytes(card()), "x") == card()


def test_forms_are_told_with_their_runtime() -> None:
    assert {(each.form, each.file, each.runtime) for each in card().files} == {
        ("int8", "int8.tflite", "tflite"),
        ("float32", "model.keras", "tensorflow"),
    }


def test_a_package_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    place = tmp_path / "work" / "package"
    write(place, "1")
    (place / "left").write_text("over")
    write(place, "2")
    assert {path.name for path in place.iterdir()} == {"manifest.json", "int8.tflite", "model.keras"}
    assert (place / "int8.tflite").read_bytes() == b"2"
    assert [path.name for path in place.parent.iterdir()] == ["package"]
    assert place.stat().st_mode & 0o777 == 0o755


def test_what_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    place = tmp_path / "package"
    write(place, "1")
    with pytest.raises(FileNotFoundError):
        write_package(place, card("2"), {"no/such": b""}, None)
    assert (place / "int8.tflite").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_what_is_too_large_for_a_device_is_refused() -> None:
    with pytest.raises(ModelsError, match=r"int8\.tflite: has \d+ bytes: allowed are"):
        files_of({"int8": bytes(MAX_MODEL_BYTES + 1)}, None)
    features = tuple(Feature(name=f"{'f' * 190}{number}", of=("speed",)) for number in range(64))
    inputs = tuple(ModelInput(name=f"{'i' * 190}{number}", metric="m" * 200) for number in range(63))
    metrics = {f"{'m' * 60}{number}": 1 / 3 for number in range(64)}
    skill = tuple(
        {"of": "o" * 64, "measure": "m" * 64, "against": "a" * 64, "skill": 1 / 3, "low": 1 / 7, "high": 1 / 2}
        for _ in range(64)
    )
    large = card(features=features, inputs=(ModelInput(name="speed"), *inputs), metrics=metrics, skill=skill)
    with pytest.raises(ModelsError, match=r"a manifest of \d{5,6} bytes: allowed are 65536"):
        manifest_bytes(large)
