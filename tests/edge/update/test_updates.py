"""The order in which updates are worked on, and that a disk which fails a while ends none of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from contract.update import desired_topic
from contract.update_news import UpdateState
from edge.errors import NotNowError, UpdateError
from edge.update.config import UpdateConfig
from edge.update.kinds import CONFIRMED
from edge.update.ledger import Ledger, Standing
from edge.update.record import Record
from edge.update.staging import Staging
from edge.update.updates import Updates
from edge.update.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

NODE = "updates", "edge-1"


class Kind:
    """Takes whatever comes; `faults` are what settling it meets first, `disk` is what checking it waits for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[Exception] = []
        self.settlements = 0
        self.is_checked = threading.Event()
        self.disk = threading.Event()
        self.disk.set()

    def names(self) -> list[str]:
        return [self.name]

    def running(self, _name: str, _standing: Standing | None) -> None:
        return None

    def check(self, _desired: object) -> None:
        self.is_checked.set()
        assert self.disk.wait(60), "the loop goes on meanwhile"

    async def apply(self, _accepted: object, _content: object, trying: Callable[[], None]) -> Any:
        trying()
        return CONFIRMED

    async def settle(self, _name: str, _standing: Standing | None) -> Any:
        self.settlements += 1
        if self.faults:
            raise self.faults.pop(0)
        return CONFIRMED

    async def settled(self, _name: str) -> None:
        """Nothing was kept."""


class SlowLink:
    """Never gets a configuration whole, and all else at once."""

    fetched_bytes = 0
    turns = 0

    async def fetch(self, desired: Any, is_wanted: Callable[[], Awaitable[bool]], _check_room: object) -> Any:
        if desired.kind != "config":
            return "the content"
        self.turns += 1
        while await is_wanted():
            self.fetched_bytes += 1
            await asyncio.sleep(0)
        raise NotNowError("another one comes first")


class Desk:
    """Updates at work, and what is noted of them."""

    def __init__(self, directory: Path, operator: Any, eventually: Any) -> None:
        self.operator = operator
        self._eventually = eventually
        self.kinds = {"config": Kind("config"), "model": Kind("m")}
        self.ledger = Ledger(directory / "ledger.json")
        self.link = SlowLink()
        record = Record(self.ledger, self.kinds, lambda _told: None)  # type: ignore[arg-type]  # as much of them as this needs
        parts: Any = {
            "kinds": self.kinds,
            "wanted": Wanted(NODE, lambda: [operator.key.public_key()], self.ledger, record.refuse, retry_s=0.05),
            "record": record,
            "staging": Staging(directory / "staging"),
            "fetcher": self.link,
            "known_wall_ms": lambda: 0,
        }
        host: Any = None
        self.updates = Updates(UpdateConfig(retry_s=0.05), host, **parts)

    def send(self, **more: Any) -> None:
        desired = self.operator.desire(b"x", **more)
        self.updates.take(desired_topic(*NODE, desired.kind, desired.name), self.operator.sign(desired))

    def state(self, key: str) -> UpdateState | None:
        standing = self.ledger.standings.get(key)
        return None if standing is None else standing.state

    async def until(self, is_so: Callable[[], object]) -> None:
        work = asyncio.create_task(self.updates.run())
        try:
            await self._eventually(is_so, "it comes to that")
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work


@pytest.fixture
def desk(tmp_path: Path, operator_key: Any, eventually: Any) -> Desk:
    return Desk(tmp_path, operator_key, eventually)


def test_a_slow_one_holds_up_no_other_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.update.updates._TURN_S", 0.1)
    desk.send()

    async def scenario() -> None:
        await desk.until(lambda: desk.state("config/config") is UpdateState.FETCHING and desk.link.fetched_bytes > 1000)
        assert desk.link.turns == 1, "nobody else waits"
        desk.send(kind="model", name="m")
        await desk.until(lambda: desk.state("model/m") is UpdateState.CONFIRMED)
        await desk.until(lambda: desk.link.turns > 2)

    asyncio.run(scenario())
    assert desk.state("config/config") is not UpdateState.REFUSED


@pytest.mark.parametrize(
    ("faults", "settlements", "state"),
    [
        ([NotNowError("the disk is full")] * 3, 4, UpdateState.CONFIRMED),
        ([UpdateError("its note is garbled")], 1, UpdateState.TRYING),
    ],
)
def test_what_an_earlier_run_has_begun_is_settled_when_the_disk_lets_it(
    desk: Desk, faults: list[Exception], settlements: int, state: UpdateState
) -> None:
    desk.ledger.put(Standing("config", "config", 1, "digest", "1", UpdateState.TRYING))
    desk.kinds["config"].faults = faults
    # One after the other.
    asyncio.run(desk.until(lambda: desk.kinds["model"].settlements))
    assert desk.kinds["config"].settlements == settlements
    assert desk.state("config/config") is state


def test_counters_that_cannot_be_read_now_are_waited_for(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").mkdir()

    async def scenario() -> None:
        desk.send(kind="model", name="m")
        await desk.until(lambda: desk.updates.report()["refused"] == 2)
        (tmp_path / "ledger.json").rmdir()
        await desk.until(lambda: desk.state("model/m") is UpdateState.CONFIRMED)

    asyncio.run(scenario())


def test_a_disk_that_hangs_when_one_is_checked_holds_up_nothing_else(desk: Desk) -> None:
    model = desk.kinds["model"]
    model.disk.clear()

    async def scenario() -> None:
        desk.send(kind="model", name="m")
        work = asyncio.create_task(desk.until(lambda: desk.state("model/m") is UpdateState.CONFIRMED))
        await asyncio.to_thread(model.is_checked.wait, 60)
        model.disk.set()
        await work

    asyncio.run(scenario())
