"""The power goes at every step of a switch: afterwards the old or the new runs, whole, and the update goes on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import parse_config
from edge.config import AgentConfig
from edge.launcher import choose
from edge.update.configuration import ConfigurationFile, hold_trial
from edge.update.model_link import ModelLink
from edge.update.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Whatever changes a disk does it by one of these.
STEPS = [
    (os, "fsync"),
    (Path, "replace"),
    (Path, "rename"),
    (Path, "unlink"),
    (Path, "symlink_to"),
    (Path, "mkdir"),
    (shutil, "rmtree"),
]


class CutError(BaseException):
    """Nothing is done any more."""


@contextlib.contextmanager
def power_goes_before(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Lets so many steps be done; the list then has their number, should they not have sufficed for a cut."""
    done = [0]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **more: Any) -> Any:
            if done[0] >= step:
                raise CutError
            done[0] += 1
            return original(*args, **more)

        return do

    with monkeypatch.context() as patched:
        for owner, name in STEPS:
            patched.setattr(owner, name, counted(getattr(owner, name)))
        yield done


def cut_everywhere(
    prepare: Callable[[Path], Any],
    switch: Callable[[Any], None],
    check: Callable[[Any], None],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> int:
    """Cuts a switch before each of its steps, and checks what is there; returns how many steps there are."""
    for step in range(1000):
        subject = prepare(directory / str(step))
        with power_goes_before(step, monkeypatch):
            try:
                switch(subject)
            except CutError:
                was_cut = True
            else:
                was_cut = False
        check(subject)
        if not was_cut:
            return step
    raise AssertionError("it does not end")


def put_version(root: Path, version: str) -> None:
    (root / "versions" / version / "lib" / "edge").mkdir(parents=True)


def test_of_the_agent(tmp_path: Path, pack_files: Any, operator_key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.update.versions._try_to_check", checked)
    archive, unpacked = pack_files(agent_files("2"))
    path = tmp_path / "archive"
    path.write_bytes(archive)
    desired = operator_key.desire(archive, kind="agent", version="2", unpacked_bytes=unpacked)

    def prepare(root: Path) -> Versions:
        put_version(root, "1")
        (root / "current").symlink_to("versions/1")
        return Versions(root, "1")

    def switch(versions: Versions) -> None:
        asyncio.run(versions.install(desired, path, tmp_path / "edge.yaml"))
        versions.begin_trial(desired, 60, 3, [])
        version, _ = choose(versions.root)
        assert version == "2"
        Versions(versions.root, version).confirm()

    def check(versions: Versions) -> None:
        version, left_s = choose(versions.root)
        assert version in {"1", "2"}
        assert (versions.root / "versions" / version / "lib" / "edge").is_dir()
        if version == "2":  # never half unpacked
            assert (versions.root / "versions" / "2" / "lib" / "contract" / "__init__.py").read_bytes() == b"2" * 3000
        assert (left_s is not None) == (versions.current == "1" and version == "2")
        # What was cut off is done once more, and comes to its end.
        if version == "1":
            switch(versions)
        else:
            Versions(versions.root, "2").confirm()
        assert choose(versions.root) == ("2", None)

    assert cut_everywhere(prepare, switch, check, tmp_path, monkeypatch) > 15


async def checked(*_: object) -> None:
    """It would run."""


def agent_files(version: str) -> dict[str, bytes | str]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {
        "lib/edge/__init__.py": "",
        "lib/contract/__init__.py": version.encode() * 3000,
        "manifest.json": f'{{"format": 1, "version": "{version}", "arch": "{machine}", "python": "{python}"}}',
    }


def test_of_an_agent_that_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(root: Path) -> Versions:
        put_version(root, "1")
        put_version(root, "2")
        (root / "current").symlink_to("versions/1")
        trial = {"version": "2", "confirm_s": 60, "max_starts": 3, "starts": 1}
        Versions(root, "2").give_up(trial, "it does not work")
        return Versions(root, "1")

    def switch(versions: Versions) -> None:
        assert choose(versions.root) == ("1", None)

    def check(versions: Versions) -> None:
        assert choose(versions.root) == ("1", None)
        assert versions.rolled_back() == ("2", "it does not work")
        assert versions.trial() is None

    assert cut_everywhere(prepare, switch, check, tmp_path, monkeypatch) >= 4


def test_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = b"old: 1\n", b"new: 2\n"

    def prepare(directory: Path) -> ConfigurationFile:
        directory.mkdir(parents=True)
        (directory / "edge.yaml").write_bytes(old)
        return ConfigurationFile(directory / "edge.yaml")

    def begin(file: ConfigurationFile) -> None:
        file.begin_trial(new, 3, ["plant"])

    def begun(file: ConfigurationFile) -> None:
        told = hold_trial(file.path)
        assert file.path.read_bytes() == (old if told is None else new)
        if told is None:
            begin(file)
        assert file.trial() is not None
        file.end_trial()
        assert file.path.read_bytes() == new

    def put_back(file: ConfigurationFile) -> None:
        begin(file)
        trial = file.trial()
        assert trial is not None
        file.put_back(trial, "it does not work")

    def is_old(file: ConfigurationFile) -> None:
        told = str(hold_trial(file.path))
        content = file.path.read_bytes()
        assert content == (old if told == "None" or "it does not work" in told else new)
        if (trial := file.trial()) is not None:
            file.put_back(trial, "it does not work")
        assert file.path.read_bytes() == old

    assert cut_everywhere(prepare, begin, begun, tmp_path / "begun", monkeypatch) >= 8
    assert cut_everywhere(prepare, put_back, is_old, tmp_path / "back", monkeypatch) >= 14


def model_of_before(directory: Path, before: str) -> ModelLink:
    """One that is a directory, which may have taken the link's place by hand; or a link; or not there."""
    if before != "nothing":
        place = directory / ("versions/1" if before == "link" else "m")
        place.mkdir(parents=True)
        (place / "manifest.json").write_text("old")
    if before == "link":
        (directory / "m").symlink_to("versions/1")
    if before == "by hand":
        (directory / ".m.before-updates").mkdir()
        (directory / ".m.before-updates" / "manifest.json").write_text("older")
    return ModelLink(directory / "m", directory / "updates")


def served(link: ModelLink) -> str | None:
    manifest = link.directory / "manifest.json"
    return manifest.read_text() if manifest.exists() else None


@pytest.mark.parametrize("before", ["directory", "by hand", "link", "nothing"])
def test_of_a_model(
    tmp_path: Path, pack_files: Any, operator_key: Any, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    archive, unpacked = pack_files({"manifest.json": "new"})
    path = tmp_path / "archive"
    path.write_bytes(archive)
    desired = operator_key.desire(archive, kind="model", name="m", version="2", unpacked_bytes=unpacked)

    old = None if before == "nothing" else "old"

    def switch(link: ModelLink) -> None:
        link.go_on(link.begin_trial(link.install(desired, path), "digest"))

    def check(link: ModelLink) -> None:
        trial = link.trial()
        if trial is None:
            assert served(link) == old
            switch(link)
        else:
            link.go_on(trial)
        assert served(link) == "new"
        if (trial := link.trial()) is not None and int(link.directory.parent.name) % 2:
            link.put_back(trial)
            assert served(link) == old
        else:
            link.end_trial()
            assert served(link) == "new"
        assert link.trial() is None

    def prepare(directory: Path) -> ModelLink:
        directory.mkdir()
        return model_of_before(directory, before)

    assert cut_everywhere(prepare, switch, check, tmp_path, monkeypatch) > 8


def test_of_a_configuration_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_bytes(b"old")
    (tmp_path / "edge.yaml").symlink_to("real.yaml")
    (tmp_path / "real.yaml").chmod(0o640)
    file = ConfigurationFile(tmp_path / "edge.yaml")
    file.begin_trial(b"new", 3, [])
    assert (tmp_path / "edge.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_bytes() == b"new"
    assert (tmp_path / "real.yaml").stat().st_mode & 0o777 == 0o640
    assert file.sha256() == hashlib.sha256(b"new").hexdigest()


def test_updates_are_for_the_durable_profile(document: dict[str, Any]) -> None:
    parse_config(document, AgentConfig, "edge.yaml")
    without = document | {"update": {}}
    with pytest.raises(ValueError, match="update needs key_files, or an identity"):
        parse_config(without, AgentConfig, "edge.yaml")
    strict = document | {"mqtt": document["mqtt"] | {"profile": "strict"}}
    with pytest.raises(ValueError, match="strict has no topics for it"):
        parse_config(strict, AgentConfig, "edge.yaml")
