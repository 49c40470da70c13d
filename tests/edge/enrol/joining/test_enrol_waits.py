"""`python -m edge enrol` where it may yet work: no network, no right time, no room; tried again, and told apart."""

from __future__ import annotations

import datetime as dt
import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edge.enrol.files import write_file

DAY = dt.timedelta(days=1)
REFUSED, NOT_YET = 1, 75


def test_a_clock_that_is_not_set_is_waited_for(
    joining: Any, new_fleet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # To a device that is behind, a good certificate is one of the future.
    fleet = new_fleet(served=False)
    now = dt.datetime.now(dt.UTC)
    future = fleet.identity_from(now + DAY, now + 2 * DAY)
    fleet.server_identity = type(fleet.root)((future.key_pem + future.chain_pem).encode())
    fleet.start()

    assert joining.enrol(fleet.card()) == NOT_YET
    assert "its certificate is not valid yet by this machine's clock, which says 20" in capsys.readouterr().err


def test_it_waits_for_the_network(joining: Any, new_fleet: Any) -> None:
    fleet = new_fleet(served=False)
    card = fleet.card()
    coming = threading.Timer(0.2, fleet.start)
    coming.start()
    try:
        assert joining.enrol(card, "--wait-s", "30") == 0
    finally:
        coming.join()
    assert joining.serial


def test_without_a_network_it_gives_up_with_a_code_of_its_own(
    joining: Any, new_fleet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    card = new_fleet(served=False).card()
    assert joining.enrol(card) == NOT_YET
    assert capsys.readouterr().err.startswith("edge: not yet: https://127.0.0.1:")
    assert joining.token_in(card) is not None


@pytest.mark.parametrize("url", ["https://127.0.0.1:99999", "https://[::1", "https://.", "https://" + 64 * "x"])
def test_a_url_that_cannot_be_is_told(
    joining: Any, new_fleet: Any, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    card = new_fleet(served=False).card(url=url)
    assert joining.enrol(card) == NOT_YET
    assert capsys.readouterr().err.startswith(f"edge: not yet: {url}: ")


def test_a_busy_endpoint_says_when_to_ask_again(joining: Any, refused: Any) -> None:
    joining.fleet.answers = [refused(429, "too many ask", Retry_After="2")]
    begun_s = time.monotonic()
    assert joining.enrol(joining.fleet.card(), "--wait-s", "30") == 0
    assert time.monotonic() - begun_s >= 2


class Disk:
    """Fails at one of its writes, counted from now on, as often as is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left, self._times, self._code = 0, 0, 0
        monkeypatch.setattr("edge.enrol.directory.write_file", self._write)

    def fail(self, code: int, *, after: int = 0, times: int = 1) -> None:
        self._left, self._times, self._code = after, times, code

    def _write(self, path: Path, content: bytes, mode: int) -> None:
        self._left -= 1
        if self._left < 0 and self._times:
            self._times -= 1
            raise OSError(self._code, os.strerror(self._code))
        write_file(path, content, mode)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize(
    ("fault", "after"),
    [(errno.ENOSPC, 0), (errno.ENOSPC, 1), (errno.ENOSPC, 5), (errno.EIO, 1), (errno.EROFS, 0)],
    ids=["no room for the key", "nor for the identity", "nor for all of it", "a broken disk", "a locked one"],
)
def test_a_disk_that_takes_nothing_for_a_while_is_not_yet_and_no_refusal(
    joining: Any, disk: Disk, capsys: pytest.CaptureFixture[str], fault: int, after: int
) -> None:
    card = joining.fleet.card()
    disk.fail(fault, after=after)
    assert joining.enrol(card) == NOT_YET
    told = f"edge: not yet: {joining.directory} cannot be written: {os.strerror(fault)}\n"
    assert capsys.readouterr().err == told
    assert joining.token_in(card) is not None
    assert joining.enrol(card) == 0
    assert len(joining.fleet.issued) == 1, "the same key has asked again"


def test_it_waits_for_room(joining: Any, disk: Disk) -> None:
    disk.fail(errno.ENOSPC, after=1)
    assert joining.enrol(joining.fleet.card(), "--wait-s", "30") == 0
    assert len(joining.fleet.issued) == 1


def test_a_directory_that_is_not_ours_is_no_matter_of_waiting(joining: Any, disk: Disk) -> None:
    disk.fail(errno.EACCES)
    assert joining.enrol(joining.fleet.card(), "--wait-s", "60") == REFUSED


def test_an_identity_that_cannot_be_read_now_is_not_taken_for_none(
    joining: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = joining.fleet.card()
    unwiped = card.read_bytes()
    assert joining.enrol(card) == 0
    card.write_bytes(unwiped)
    opened = Path.open

    def broken(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == "cert.pem":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", broken)
        assert joining.enrol(card) == NOT_YET
    assert len(joining.fleet.asked) == 1


def test_a_card_that_cannot_be_read_now_is_not_wrong(joining: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, *_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    card = joining.fleet.card()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", broken)
        assert joining.enrol(card) == NOT_YET
