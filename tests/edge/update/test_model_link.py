"""The link that is a model's directory, whatever somebody has done to it by hand, or may not be done to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge.errors import NotNowError, RolledBackError, UpdateError
from edge.update.model_link import ModelLink, ModelTrial


class Site:
    """A model's directory, and the versions that came."""

    def __init__(self, directory: Path) -> None:
        self.model = directory / "models" / "m"
        self.link = ModelLink(self.model, directory / "updates")
        self._versions = directory / "updates"

    def put_by_hand(self, text: str) -> None:
        if self.model.is_symlink():
            self.model.unlink()
        self.model.mkdir(parents=True)
        (self.model / "manifest.json").write_text(text)

    def begin(self, version: str) -> ModelTrial:
        place = self._versions / version
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(version)
        return self.link.begin_trial(place, f"digest of {version}")

    @property
    def served(self) -> str:
        return (self.model / "manifest.json").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.put_by_hand("the first")
    return site


def test_a_directory_that_took_the_links_place_by_hand_is_what_is_put_back_from_then_on(site: Site) -> None:
    site.link.go_on(site.begin("1"))
    site.link.end_trial()
    site.put_by_hand("by hand")
    trial = site.begin("2")
    site.link.go_on(trial)
    assert site.served == "2"
    site.link.put_back(trial)
    assert site.served == "by hand"
    assert site.link.trial() is None


@pytest.mark.parametrize("before", ["a directory", "a version", "nothing"])
@pytest.mark.parametrize("by_hand", ["a directory", "a link"])
def test_what_is_put_there_by_hand_during_a_trial_is_served_from_then_on(
    site: Site, tmp_path: Path, before: str, by_hand: str
) -> None:
    if before == "a version":
        site.link.go_on(site.begin("1"))
        site.link.end_trial()
    elif before == "nothing":
        shutil.rmtree(site.model)
    trial = site.begin("2")
    site.link.go_on(trial)
    if by_hand == "a directory":
        site.put_by_hand("by hand")
    else:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "manifest.json").write_text("by hand")
        site.model.unlink()
        site.model.symlink_to(tmp_path / "mine")
    with pytest.raises(RolledBackError, match="models/m was replaced by hand meanwhile, and stays"):
        site.link.go_on(trial)
    site.link.put_back(trial)
    assert (site.served, site.link.trial()) == ("by hand", None)


@pytest.mark.parametrize("aside", ["a directory", "a link", "a file"])
def test_what_was_moved_aside_earlier_is_deleted_with_a_word(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, aside: str
) -> None:
    path = site.model.with_name(".m.before-updates")
    (tmp_path / "mine").mkdir()
    if aside == "a directory":
        path.mkdir()
        (path / "manifest.json").write_text("older")
    elif aside == "a link":
        path.symlink_to(tmp_path / "mine")
    else:
        path.write_text("older")
    trial = site.begin("1")
    assert f"{path} is deleted: what {site.model} is now comes there" in caplog.text
    site.link.go_on(trial)
    assert site.served == "1"
    site.link.put_back(trial)
    assert site.served == "the first"
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("is_link", [False, True])
def test_where_nothing_can_be_changed_nothing_is_put_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, is_link: bool
) -> None:
    if is_link:
        site.link.go_on(site.begin("1"))
        site.link.end_trial()
    before, trial = site.served, site.begin("2")

    def refused(*_: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied")

    for change in ("rename", "replace", "symlink_to", "unlink"):
        monkeypatch.setattr(Path, change, refused)
    with pytest.raises(NotNowError, match="cannot be made a link: Permission denied"):
        site.link.go_on(trial)
    monkeypatch.setattr("edge.update.model_link.remove_file", os.unlink)
    site.link.put_back(trial)
    assert (site.served, site.link.trial()) == (before, None)


def test_an_archive_that_means_no_good_is_refused_and_leaves_nothing(
    site: Site, evil_archive: tuple[bytes, str], tmp_path: Path, operator_key: Any
) -> None:
    content, why = evil_archive
    (tmp_path / "archive").write_bytes(content)
    desired = operator_key.desire(content, kind="model", name="m", version="2", unpacked_bytes=1000)
    with pytest.raises(UpdateError, match=why):
        site.link.install(desired, tmp_path / "archive")
    assert site.served == "the first"
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["archive", "models", "models/m", "models/m/manifest.json", "updates"]


def test_a_directory_above_which_the_agent_may_not_write_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.link.check()
    ModelLink(tmp_path / "not" / "there" / "yet", tmp_path / "updates").check()
    monkeypatch.setattr("edge.update.model_link.os.access", lambda _path, _mode: False)
    with pytest.raises(UpdateError, match=r"has to become a link, and the agent may not write to .*models"):
        site.link.check()


@pytest.mark.parametrize(
    ("own", "of_all", "is_waited_for"), [("rw", "rw", False), ("ro", "rw", False), ("ro", "ro", True)]
)
def test_a_file_system_that_is_read_only_now_is_waited_for(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, of_all: str, *, is_waited_for: bool
) -> None:
    mounts, device = tmp_path / "mountinfo", tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts.write_text(
        "21 1 0:1 / /another rw - proc proc ro\n"
        f"22 1 {number} / / {own},relatime shared:1 - ext4 /dev/root {of_all},errors=remount-ro\n"
    )
    monkeypatch.setattr("edge.update.model_link._MOUNTS", mounts)
    monkeypatch.setattr("edge.update.model_link.os.access", lambda _path, _mode: False)
    with pytest.raises(UpdateError, match="m has to become a link, and ") as caught:
        site.link.check()
    assert isinstance(caught.value, NotNowError) is is_waited_for


def test_what_is_not_mounted_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.update.model_link.os.access", lambda _path, _mode: False)
    with pytest.raises(NotNowError, match=r"may not write to .*; it is not there: .* may not be mounted yet"):
        ModelLink(tmp_path / "models" / "m", tmp_path / "updates").check()
