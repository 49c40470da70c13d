"""The registry on a real directory and on another store of fsspec: versions never change, stages follow the moves."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.card import MANIFEST_FILE, SIGNATURE_FILE
from models.__main__ import main
from models.errors import RegistryError
from models.registry import Move, Registry, Stage
from models.registry.stages import stages

if TYPE_CHECKING:
    from pathlib import Path

SKILL = {"of": "level", "measure": "pinball", "against": "naive", "skill": 0.2, "low": 0.1, "high": 0.3}
NO_SKILL = SKILL | {"skill": 0.01, "low": -0.1, "high": 0.1}


def package(place: Path, version: str = "1", *, content: bytes = b"a model", skill: object = (SKILL,)) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "float32.tflite").write_bytes(content)
    manifest = {
        "format": 1,
        "name": "tank",
        "version": version,
        "inputs": [{"name": "level", "unit": "m"}],
        "window": {"length": 4, "step_s": 1},
        "features": [{"name": "level", "of": ["level"]}],
        "output": {
            "kind": "forecast",
            "targets": [{"name": "level", "of": ["level"]}],
            "horizons": [1],
            "quantiles": [0.5],
        },
        "files": [
            {
                "form": "float32",
                "file": "float32.tflite",
                "sha256": hashlib.sha256(content).hexdigest(),
                "size_bytes": len(content),
            }
        ],
        "skill": list(skill),  # type: ignore[call-overload]  # whatever a test says
    }
    (place / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    return place


@pytest.fixture(params=["directory", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry") if request.param == "directory" else f"memory://{uuid.uuid4().hex}")


def test_a_version_comes_back_as_it_was_registered(registry: Registry, tmp_path: Path) -> None:
    made = package(tmp_path / "made")
    (made / SIGNATURE_FILE).write_text("signed", encoding="ascii")
    (tmp_path / "report.html").write_text("<p>", encoding="utf-8")
    found = registry.register(made, [tmp_path / "report.html"])
    assert (found.stage, found.is_signed, registry.names()) == (Stage.CANDIDATE, True, ["tank"])
    (tmp_path / "back").mkdir()
    registry.fetch("tank", "1", tmp_path / "back")
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }


def test_a_version_never_changes(registry: Registry, tmp_path: Path) -> None:
    registry.register(package(tmp_path / "a"))
    registry.register(package(tmp_path / "a"))  # the very same is no change
    with pytest.raises(RegistryError, match="already, and is not this one"):
        registry.register(package(tmp_path / "b", content=b"another"))
    assert len(registry.versions("tank")) == 1


def test_a_signature_may_come_later(registry: Registry, tmp_path: Path) -> None:
    made = package(tmp_path / "a")
    assert not registry.register(made).is_signed
    (made / SIGNATURE_FILE).write_text("signed", encoding="ascii")
    assert registry.register(made).is_signed
    (made / SIGNATURE_FILE).write_text("by another", encoding="ascii")
    registry.register(made)
    (tmp_path / "back").mkdir()
    registry.fetch("tank", "1", tmp_path / "back")
    assert (tmp_path / "back" / SIGNATURE_FILE).read_text(encoding="ascii") == "signed"


def test_the_longest_reason_can_be_read_again_and_a_longer_one_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.register(package(tmp_path / "a"))
    assert registry.promote("tank", "1", Stage.LIVE, "\x01" * 1000).stage is Stage.LIVE
    with pytest.raises(RegistryError, match="the reason for a move"):
        registry.promote("tank", "1", Stage.RETIRED, "x" * 1001)
    assert registry.find("tank", "live").card.version == "1"


def test_nothing_unfinished_is_left(tmp_path: Path) -> None:
    Registry(str(tmp_path / "registry")).register(package(tmp_path / "a"))
    found = {path.name for path in (tmp_path / "registry/tank/versions/1").iterdir()}
    assert found == {MANIFEST_FILE, "float32.tflite"}


def test_a_package_whose_file_is_another_is_refused_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    made = package(tmp_path / "a")
    (made / "float32.tflite").write_bytes(b"tampered")
    with pytest.raises(RegistryError, match=r"float32\.tflite: is not the manifest's"):
        registry.register(made)
    assert registry.names() == []


def test_a_file_that_was_changed_in_the_store_is_not_fetched(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.register(package(tmp_path / "a"))
    (tmp_path / "registry/tank/versions/1/float32.tflite").write_bytes(b"rotten!")
    (tmp_path / "into").mkdir()
    with pytest.raises(RegistryError, match="is not the manifest's"):
        registry.fetch("tank", "1", tmp_path / "into")


def test_a_version_without_a_manifest_was_never_finished(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.register(package(tmp_path / "a"))
    (tmp_path / "registry/tank/versions/1" / MANIFEST_FILE).unlink()
    assert (registry.names(), registry.versions("tank")) == ([], [])
    assert registry.register(package(tmp_path / "b", content=b"another")).card.version == "1"


def test_who_takes_a_place_retires_who_was_there(registry: Registry, tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        registry.register(package(tmp_path / version, version))
    registry.promote("tank", "1", Stage.LIVE)
    registry.promote("tank", "2", Stage.CANARY)
    registry.promote("tank", "2", Stage.LIVE, "better")
    assert {each.card.version: each.stage for each in registry.versions("tank")} == {
        "1": Stage.RETIRED,
        "2": Stage.LIVE,
        "3": Stage.CANDIDATE,
    }
    registry.promote("tank", "1", Stage.LIVE, "worse after all")  # and back again
    assert registry.find("tank", "live").card.version == "1"
    assert [move.why for move in registry.moves("tank")] == ["", "", "better", "worse after all"]


@pytest.mark.parametrize("name", ["..", "a/b", "", "/etc"])
def test_a_name_stays_within_the_registry(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="no name of a model"):
        registry.versions(name)
    with pytest.raises(RegistryError, match="is no version"):
        registry.fetch("tank", name, None)  # type: ignore[arg-type]  # it does not come to that


def test_a_store_that_is_not_there_is_a_line() -> None:
    with pytest.raises(RegistryError, match="nosuch://x: cannot be opened"):
        Registry("nosuch://x")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(Stage))))
def test_there_is_never_more_than_one_live_and_one_canary(moves: list[tuple[str, Stage]]) -> None:
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = [
        Move(version=version, stage=stage, at=at + dt.timedelta(seconds=i), by="me")
        for i, (version, stage) in enumerate(moves)
    ]
    found = list(stages("abc", reversed(made)).values())
    assert len(found) == 3
    assert found.count(Stage.LIVE) <= 1
    assert found.count(Stage.CANARY) <= 1


def test_a_model_without_skill_goes_nowhere_unless_it_is_wanted_anyway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, place = str(tmp_path / "registry"), tmp_path / "device" / "tank"
    place.parent.mkdir()
    Registry(url).register(package(tmp_path / "a", skill=[NO_SKILL]))
    deploy = ["deploy", "tank", "1", str(place), "--registry", url]
    assert main(deploy) == 1
    assert "no skill: level 1.0 % [-10.0, 10.0] over naive" in capsys.readouterr().err
    assert not place.exists()
    assert main(["promote", "tank", "1", "live", "--registry", url]) == 1
    assert main([*deploy, "--anyway", "--dry-run"]) == 0
    assert not place.exists()
    assert main([*deploy, "--anyway"]) == 0
    assert json.loads((place / MANIFEST_FILE).read_bytes())["version"] == "1"
    main(["list", "--registry", url])
    assert "no skill shown" in capsys.readouterr().out


def test_deploy_switches_a_link_and_touches_no_directory_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, place = str(tmp_path / "registry"), tmp_path / "tank"
    for version in ("1", "2"):
        Registry(url).register(package(tmp_path / version, version))
    assert main(["deploy", "tank", "1", str(place), "--registry", url]) == 0
    assert main(["deploy", "tank", "2", str(place), "--registry", url]) == 0
    assert place.readlink().parts == ("tank.versions", "2")
    assert "tank 2, instead of 1" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    assert main(["deploy", "tank", "2", str(tmp_path / "mine"), "--registry", url]) == 1
    assert "is no link that this command made" in capsys.readouterr().err


def test_what_there_is_not_is_said_with_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = str(tmp_path / "registry")
    Registry(url).register(package(tmp_path / "a"))
    assert main(["deploy", "tank", "live", str(tmp_path / "x"), "--registry", url]) == 1
    assert "there is no live in" in (said := capsys.readouterr().err)
    assert "1 (candidate)" in said
    assert main(["compare", "tank", "1", "candidate", "--registry", url]) == 0
    assert "20.0 % [10.0, 30.0] over naive" in capsys.readouterr().out
