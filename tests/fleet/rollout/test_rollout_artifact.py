"""What is rolled out: taken in only if devices would take it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from contract.archive import unpack
from contract.config import ConfigError
from contract.update import CHUNK_BYTES, MAX_BYTES, MAX_CHUNKS, MAX_URL_CHUNK_BYTES
from fleet.errors import FleetError
from fleet.rollout import artifact as artifacts
from fleet.rollout.artifact import Artifact, take_in

MANIFEST = b'{"version": "2"}'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_what_is_kept_is_on_the_disk(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The roll-out that needs it is written down right after."""
    (tmp_path / "edge.yaml").write_text("a: 1\n")
    (tmp_path / "kept").mkdir()
    made, synced = take_in(tmp_path / "edge.yaml", "config", "1", place, by_url=False), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    kept = made.keep(tmp_path / "kept")
    assert synced == [made.path, kept.path.parent]


def test_a_directory_becomes_the_same_archive_each_time(tmp_path: Path, place: Path) -> None:
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "manifest.json").write_bytes(MANIFEST)
    (source / "sub/model.tflite").write_bytes(bytes(1000))
    first = take_in(source, "model", "2", place, by_url=False)
    (tmp_path / "again").mkdir()
    assert take_in(source, "model", "2", tmp_path / "again", by_url=False).sha256 == first.sha256
    assert (first.unpacked_bytes, first.chunk_bytes, len(first.chunks)) == (1000 + len(MANIFEST), CHUNK_BYTES, 1)
    (tmp_path / "out").mkdir()
    with first.path.open("rb") as file:
        unpack(file, tmp_path / "out", first.unpacked_bytes)
    assert (tmp_path / "out/sub/model.tflite").read_bytes() == bytes(1000)


def test_an_archive_stays_as_it_is(tmp_path: Path, place: Path) -> None:
    source = archive(tmp_path / "a.tar.gz", ("manifest.json", MANIFEST), ("b/c", b"12"))
    taken = take_in(source, "agent", "2", place, by_url=False)
    assert (taken.path.read_bytes(), taken.unpacked_bytes) == (source.read_bytes(), len(MANIFEST) + 2)
    kept = taken.keep(tmp_path)
    assert kept.path == tmp_path / kept.sha256
    assert b"".join(kept.content()) == source.read_bytes()
    assert Artifact.read(kept.path, len(MANIFEST) + 2, by_url=False) == kept


@pytest.mark.parametrize(
    ("name", "says"), [("../../etc/passwd", "is no path inside"), ("/etc/passwd", "is no path inside")]
)
def test_what_devices_refuse_is_refused_here(tmp_path: Path, place: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        take_in(archive(tmp_path / "a.tar.gz", (name, b"x")), "agent", "2", place, by_url=False)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (None, "manifest.json: cannot be read: No such file"),
        (b"{", "manifest.json"),
        (b"[]", "manifest.json: has no version"),
        (b'{"version": 2}', "manifest.json: has no version"),
        (b'{"version": "3"}', "--version: found '2', allowed is that in .*, which devices compare: 3"),
        (b'{"version": "2"}' + b" " * 65_536, "manifest.json: allowed are 65536 bytes"),
    ],
)
def test_its_manifest_says_the_same_version(tmp_path: Path, place: Path, manifest: bytes | None, says: str) -> None:
    members = [("a", b"x")] if manifest is None else [("manifest.json", manifest)]
    with pytest.raises(ConfigError, match=says):
        take_in(archive(tmp_path / "a.tar.gz", *members), "model", "2", place, by_url=False)


def test_a_link_in_a_directory_is_refused(tmp_path: Path, place: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/link").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="neither a directory nor a plain file"):
        take_in(tmp_path / "model", "model", "2", place, by_url=False)


def test_what_is_no_archive_empty_or_away_is_told(tmp_path: Path, place: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(ConfigError, match="is no whole gzip file"):
        take_in(tmp_path / "text", "agent", "2", place, by_url=False)
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match="is 0 bytes: allowed are 1 to"):
        take_in(tmp_path / "empty", "agent", "2", place, by_url=False)
    with pytest.raises(FleetError, match="No such file"):
        take_in(tmp_path / "none", "agent", "2", place, by_url=False)


def test_a_configuration_is_one_yaml(tmp_path: Path, place: Path) -> None:
    source = tmp_path / "edge.yaml"
    source.write_text("node: a\n")
    assert take_in(source, "config", "2", place, by_url=False).unpacked_bytes == 8
    for number, (text, says) in enumerate([("- a\n", "is no configuration"), ("a: [", "is not YAML")]):
        source.write_text(text)
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ConfigError, match=says):
            take_in(source, "config", "2", tmp_path / str(number), by_url=False)
    with pytest.raises(ConfigError, match="a configuration is one YAML file"):
        take_in(tmp_path, "config", "2", place, by_url=False)
    with source.open("wb") as file:
        file.truncate(MAX_BYTES["config"] + 1)
    (tmp_path / "large").mkdir()
    with pytest.raises(ConfigError, match="allowed are 1 to 262144"):
        take_in(source, "config", "2", tmp_path / "large", by_url=False)


def test_what_is_too_much_for_messages_goes_by_url_in_larger_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr(artifacts, "_BY_MESSAGES", 100)
    content = b"".join(number.to_bytes(4, "big") for number in range(500))
    source = archive(tmp_path / "a.tar.gz", ("manifest.json", MANIFEST), ("a", content))
    with pytest.raises(ConfigError, match="put it on a web server, and name it by --url"):
        take_in(source, "agent", "2", place, by_url=False)
    (tmp_path / "other").mkdir()
    taken = take_in(source, "agent", "2", tmp_path / "other", by_url=True)
    assert taken.chunk_bytes == MAX_URL_CHUNK_BYTES
    assert max(MAX_BYTES.values()) <= MAX_URL_CHUNK_BYTES * MAX_CHUNKS


def test_a_file_that_has_changed_or_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="cannot be read"):
        Artifact.read(tmp_path / "none", 1, by_url=False)
