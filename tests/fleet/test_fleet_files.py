"""Files of the operator's directory: whose they are, and who waits for whom."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.files import make_folder, only_one, write_file
from fleet.founding import check_free, found
from fleet.registry import Registry
from fleet.settings import BrokerSettings, FleetSettings


@pytest.mark.parametrize("place", ["a directory", "not/there"])
def test_a_lock_that_cannot_be_had_is_told(place: str, tmp_path: Path) -> None:
    (tmp_path / "a directory").mkdir()
    with pytest.raises(FleetError, match="cannot be opened, to be the only one"), only_one(tmp_path / place):
        pass


def test_a_failure_of_what_is_done_alone_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk"), only_one(tmp_path / "lock"):
        raise OSError("the disk")
    with only_one(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("fault", [OSError(28, "the disk is full"), KeyboardInterrupt()], ids=repr)
def test_a_file_that_is_not_whole_leaves_nothing(
    fault: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_descriptor: int) -> None:
        raise fault

    monkeypatch.setattr("fleet.files.os.fsync", cut)
    with pytest.raises((FleetError, KeyboardInterrupt)):
        write_file(tmp_path / "enrol.json", b"a token")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [".", "/"])
def test_a_fleet_is_made_below_a_directory_and_not_in_its_place(place: str) -> None:
    with pytest.raises(FleetError, match="name a directory below it"):
        check_free(Path(place))


@pytest.mark.parametrize("name", ["root/ca.pem", "issuing/ca.key", "issuing/ca.pem"])
def test_a_file_that_is_spoilt_is_named(tmp_path: Path, name: str) -> None:
    broker = BrokerSettings(host="127.0.0.1", port=8883)
    settings = FleetSettings(name="x", groups=("plant",), broker=broker, url="https://127.0.0.1:8443")
    home = found(tmp_path / "home", settings)
    home.registry.add_node("pump-1", "plant")
    (home.path / name).write_bytes(b"")
    with pytest.raises(FleetError, match=r"home/(root/ca\.pem|issuing/ca\.key): is no"):
        home.enrolment_for("pump-1", baked=True)


def test_a_registry_is_its_owners_alone(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.sqlite")
    registry.make()
    registry.add_node("pump-1", "plant")
    assert stat.S_IMODE((tmp_path / "registry.sqlite").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives something away")
def test_what_root_makes_in_somebodys_directory_is_his(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_346)
    write_file(tmp_path / "acl", b"x")
    with only_one(tmp_path / ".lock"):
        make_folder(tmp_path / "operator/below")
    write_file(tmp_path / "operator/below/key", b"x")
    made = [path.stat() for path in tmp_path.rglob("*")]
    assert [(each.st_uid, each.st_gid) for each in made] == [(12_345, 12_346)] * 5
    assert {stat.S_IMODE(each.st_mode) for each in made} == {0o600, 0o700}
