"""Chunks on their way to the disk: resumed where they were, refused where they are not what was signed."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import NotNowError, UplinkError
from edge.update.fetching import Fetcher
from edge.update.staging import Staging

CONTENT = bytes(range(250))
CHUNK = 30


class Shelf:
    """Retained messages; there is none from `fails_at` on."""

    def __init__(self, fails_at: int = 1000) -> None:
        self.asked: list[int] = []
        self._fails_at = fails_at

    async def fetch(self, topic: str, _timeout_s: float) -> bytes:
        number = int(topic.rpartition("/")[2])
        self.asked.append(number)
        if number >= self._fails_at:
            raise UplinkError("the connection was lost")
        return CONTENT[number * CHUNK :][:CHUNK]


async def room(_size: int) -> None:
    """There is enough."""


async def wanted() -> bool:
    return True


def fetch(shelf: Any, directory: Path, desired: Any) -> bytes:
    fetcher = Fetcher(shelf, Staging(directory), 1e9, None)
    return asyncio.run(fetcher.fetch(desired, wanted, room)).read_bytes()


# What an example leaves on the disk it also takes away.
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)), st.binary(max_size=40))
def test_it_goes_on_with_what_is_there_and_good(
    tmp_path: Path, operator_key: Any, kept: int, spoilt_at: int, garbage: bytes
) -> None:
    desired = operator_key.desire(CONTENT, chunk_bytes=CHUNK)
    path = Staging(tmp_path).path(desired)
    # A power cut leaves the beginning, some of it perhaps never written, and garbage behind it.
    left = bytearray(CONTENT[:kept] + garbage)
    if spoilt_at < len(left):
        left[spoilt_at] ^= 1
    path.write_bytes(left)
    good = 0
    while (
        good < len(desired.chunks)
        and left[good * CHUNK :][: desired.chunk_size(good)] == CONTENT[good * CHUNK :][:CHUNK]
    ):
        good += 1
    shelf = Shelf()
    assert fetch(shelf, tmp_path, desired) == CONTENT
    assert shelf.asked == list(range(good, len(desired.chunks)))
    path.unlink()


def test_what_was_fetched_before_a_lost_connection_stays(tmp_path: Path, operator_key: Any) -> None:
    desired = operator_key.desire(CONTENT, chunk_bytes=CHUNK)
    with pytest.raises(NotNowError, match="chunk 5 of 9: the connection was lost"):
        fetch(Shelf(fails_at=5), tmp_path, desired)
    shelf = Shelf()
    assert fetch(shelf, tmp_path, desired) == CONTENT
    assert shelf.asked == [5, 6, 7, 8]


def test_a_chunk_that_was_taken_away_is_waited_for(tmp_path: Path, operator_key: Any) -> None:
    class Cleared(Shelf):
        """As where a roll-out is paused just then: who deletes a retained message sends an empty one."""

        async def fetch(self, topic: str, timeout_s: float) -> bytes:
            return b"" if topic.endswith("/3") else await super().fetch(topic, timeout_s)

    desired = operator_key.desire(CONTENT, chunk_bytes=CHUNK)
    with pytest.raises(NotNowError, match="chunk 3 of 9: was taken away"):
        fetch(Cleared(), tmp_path, desired)
    assert fetch(Shelf(), tmp_path, desired) == CONTENT


def test_a_full_disk_is_waited_for(tmp_path: Path, operator_key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    desired = operator_key.desire(CONTENT, chunk_bytes=CHUNK)
    staging = Staging(tmp_path)
    assert staging.resume(desired) == 0
    monkeypatch.setattr(staging, "path", lambda _desired: Path("/dev/full"))
    monkeypatch.setattr(staging, "resume", lambda _desired: 0)
    fetcher = Fetcher(Shelf(), staging, 1e9, None)
    with pytest.raises(NotNowError, match="the disk does not take it: No space left on device"):
        asyncio.run(fetcher.fetch(desired, wanted, room))


def test_what_is_wanted_no_more_is_not_fetched_on(tmp_path: Path, operator_key: Any) -> None:
    shelf = Shelf()
    fetcher = Fetcher(shelf, Staging(tmp_path), 1e9, None)

    async def wanted_a_while() -> bool:
        return len(shelf.asked) < 2

    with pytest.raises(NotNowError, match="another one comes first"):
        asyncio.run(fetcher.fetch(operator_key.desire(CONTENT, chunk_bytes=CHUNK), wanted_a_while, room))
    assert shelf.asked == [0, 1]


def test_it_is_fetched_at_its_rate(tmp_path: Path, operator_key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    fetcher = Fetcher(Shelf(), Staging(tmp_path), 100.0, None)
    monkeypatch.setattr("edge.update.fetching.asyncio.sleep", wait)
    asyncio.run(fetcher.fetch(operator_key.desire(CONTENT, chunk_bytes=CHUNK), wanted, room))
    # The first second's worth is there at once; waited for is what the clock, which does not go on here, owes.
    assert waited[:4] == [0, 0, 0, 0]
    assert waited[-1] == pytest.approx((8 * CHUNK - 100) / 100, abs=0.3)


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EINTR])
def test_a_disk_that_fails_when_it_is_gone_on_is_waited_for(
    tmp_path: Path, operator_key: Any, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    desired = operator_key.desire(CONTENT, chunk_bytes=CHUNK)
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise OSError(fault, os.strerror(fault))

        patch.setattr(Path, "open", fail)
        with pytest.raises(NotNowError, match=os.strerror(fault)):
            fetch(Shelf(), tmp_path, desired)
    assert fetch(Shelf(), tmp_path, desired) == CONTENT


def test_what_the_disk_has_spoilt_is_fetched_again_and_not_refused(
    tmp_path: Path, operator_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    desired = operator_key.desire(CONTENT, chunk_bytes=CHUNK)
    append = Staging.append

    def spoil(staging: Staging, desired: Any, number: int, chunk: bytes) -> None:
        append(staging, desired, number, chunk)
        if number == 8:
            with staging.path(desired).open("r+b") as file:
                file.seek(4 * CHUNK)
                file.write(b"\0")

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "append", spoil)
        with pytest.raises(NotNowError, match="the disk has not kept what was written"):
            fetch(Shelf(), tmp_path, desired)
    shelf = Shelf()
    assert fetch(shelf, tmp_path, desired) == CONTENT
    assert shelf.asked == [4, 5, 6, 7, 8]
