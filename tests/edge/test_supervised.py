from __future__ import annotations

import asyncio

import pytest

from edge import supervised as supervising
from edge.supervised import supervised


def test_what_fails_unforeseen_is_told_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervising, "_RESTART_S", 0)
    faults = [ValueError("one"), KeyError("two")]

    async def work() -> None:
        if faults:
            raise faults.pop(0)

    asyncio.run(supervised(work))
    assert not faults
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["one", "'two'"]


def test_a_cancellation_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def cancelled() -> None:
        async with asyncio.timeout(0.01):
            await supervised(lambda: asyncio.sleep(60))

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    assert not caplog.records
