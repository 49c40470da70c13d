"""What does not go on is cut off first, and then given up to systemd."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.clock import AnchoredClock
from edge.errors import SourceError, SpoolError
from edge.health.notify import Notifier
from edge.health.watchdog import Watchdog
from edge.polling import Poll, Poller
from edge.reading import MetricInfo, Reading
from edge.sources.base import Source, SourceConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from edge.sources.base import Clock

Eventually = "Callable[..., Awaitable[None]]"


class DeafConfig(SourceConfig):
    """Its first `deaf` polls hear neither their time-out nor so many cancellations."""

    type: Literal["deaf"] = "deaf"
    deaf: int = 1
    swallows: int = 1

    def metrics(self) -> Sequence[MetricInfo]:
        return [MetricInfo("a", DataType.DOUBLE)]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[DeafSource]:
        yield DeafSource(self, now_ms)


POLLS: dict[str, itertools.count[int]] = {}


class DeafSource(Source):
    def __init__(self, config: DeafConfig, now_ms: Clock) -> None:
        self._config = config
        self._now_ms = now_ms

    async def poll(self) -> list[Reading]:
        if next(POLLS.setdefault(self._config.name, itertools.count())) < self._config.deaf:
            for _ in range(self._config.swallows):
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    continue
            await asyncio.sleep(600)
        return [Reading("a", DataType.DOUBLE, 1.0, self._now_ms())]


class Systemd(Notifier):
    """Hears what systemd would."""

    def __init__(self, watchdog_s: float | None = 0.3) -> None:
        super().__init__(None, watchdog_s)
        self.fed = 0
        self.told = ""

    def alive(self) -> None:
        self.fed += 1

    def status(self, text: str) -> None:
        self.told = text


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    POLLS.clear()
    monkeypatch.setattr("edge.polling.backoff_s", lambda *_args, **_kwargs: 0.01)


async def answers() -> object:
    return None


@asynccontextmanager
async def watched(
    *configs: DeafConfig, ask_spool: Callable[[], Awaitable[object]] = answers, stuck_after_s: float = 0.2
) -> AsyncIterator[tuple[Watchdog, Systemd, dict[str, Poller], list[Poll]]]:
    """Pollers that run, and a watchdog that looks at them."""
    polls: list[Poll] = []
    clock, systemd = AnchoredClock(), Systemd()
    pollers = {config.name: Poller(config, polls.append, clock.now_ms) for config in configs}
    watchdog = Watchdog(lambda: pollers, ask_spool, lambda: "1 of 1 sources ok", systemd, stuck_after_s)
    tasks = [asyncio.create_task(poller.run()) for poller in pollers.values()]
    tasks.append(asyncio.create_task(watchdog.run()))
    try:
        yield watchdog, systemd, pollers, polls
    finally:
        while pending := [task for task in tasks if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=0.01)
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_source_that_ignores_its_timeout_is_cut_off_and_goes_on(
    eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        config = DeafConfig(name="s", interval_s=0.02, timeout_s=0.05)
        async with watched(config) as (watchdog, systemd, pollers, polls):
            await eventually(lambda: pollers["s"].status.state == "ok", "it works again")
            assert pollers["s"].status.restarts == 1
            assert polls[0].readings[0].quality is Quality.BAD
            assert (watchdog.stuck, systemd.told) == ((), "1 of 1 sources ok")
            fed = systemd.fed
            await eventually(lambda: systemd.fed > fed, "the watchdog is fed")

    asyncio.run(scenario())
    assert caplog.text.count("s hangs beyond its time-out: cut off") == 1


def test_a_source_that_ignores_everything_is_stuck_and_systemd_hears_no_more(
    eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        deaf = DeafConfig(name="deaf", interval_s=0.02, timeout_s=0.05, swallows=5)
        well = DeafConfig(name="well", interval_s=0.02, deaf=0)
        async with watched(deaf, well) as (watchdog, systemd, pollers, _):
            await eventually(lambda: watchdog.stuck == ("source deaf",), "it is stuck")
            fed, polled = systemd.fed, pollers["well"].status.polls
            await eventually(lambda: pollers["well"].status.polls > polled + 20, "the other goes on")
            assert systemd.fed == fed
            assert pollers["deaf"].overdue_s > 0.4

    asyncio.run(scenario())
    assert [r.message for r in caplog.records if r.levelname == "CRITICAL"] == [
        "source deaf does not go on, whatever is tried: the agent has to be started again"
    ]


def test_a_cut_poller_still_ends_when_it_is_told_to(eventually: Any) -> None:
    async def scenario() -> None:
        config = DeafConfig(name="s", interval_s=0.02, timeout_s=0.05)
        async with watched(config) as (_, _, pollers, polls):
            await eventually(lambda: pollers["s"].status.restarts == 1, "it was cut off")
            pollers["s"].stop()
            count = len(polls)
            await asyncio.sleep(0.1)
            assert len(polls) <= count + 1

    asyncio.run(scenario())


def test_a_cut_is_no_cancellation_and_a_cancellation_no_cut(eventually: Any) -> None:
    async def scenario() -> None:
        config = DeafConfig(name="s", interval_s=0.02, timeout_s=0.05, deaf=0)
        poller = Poller(config, lambda _: None, AnchoredClock().now_ms)
        task = asyncio.create_task(poller.run())
        for turn in range(1, 20):
            # At any moment: in a poll, in a pause, while it opens.
            await asyncio.sleep(0.001 * turn)
            poller.cut()
            await eventually(lambda turn=turn: poller.status.restarts == turn, "it has started again")
        # A time-out that passes at this moment cancels too, until it has been told of.
        await eventually(lambda: task.cancelling() == 0, "no cancellation is left")
        poller.cut()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_spool_that_hangs_is_stuck_until_it_answers(eventually: Any) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        async with watched(ask_spool=gate.wait) as (watchdog, systemd, _, _):
            await eventually(lambda: watchdog.stuck == ("spool",), "the spool is stuck")
            fed = systemd.fed
            gate.set()
            await eventually(lambda: watchdog.stuck == (), "it answers")
            await eventually(lambda: systemd.fed > fed, "systemd hears of it")

    asyncio.run(scenario())


def test_a_spool_that_fails_is_no_spool_that_hangs(eventually: Any) -> None:
    async def fails() -> object:
        raise SpoolError("the disk is full")

    async def scenario() -> None:
        async with watched(ask_spool=fails) as (watchdog, systemd, _, _):
            await eventually(lambda: systemd.fed >= 6, "many looks")
            assert watchdog.stuck == ()

    asyncio.run(scenario())


def test_an_event_loop_that_stood_still_blames_nobody(eventually: Any) -> None:
    async def scenario() -> None:
        config = DeafConfig(name="s", interval_s=0.05, timeout_s=0.05, deaf=0)
        async with watched(config, stuck_after_s=0.1) as (watchdog, systemd, pollers, _):
            await eventually(lambda: pollers["s"].status.polls > 2, "polls")
            threading.Event().wait(2.0)  # as when the process is stopped, or the machine swaps
            fed = systemd.fed
            await eventually(lambda: systemd.fed > fed + 3, "it goes on")
            assert pollers["s"].status.restarts == 0
            assert watchdog.stuck == ()

    asyncio.run(scenario())


def test_a_write_goes_to_an_open_source_alone(eventually: Any) -> None:
    class Writable(DeafSource):
        async def write(self, metric: str, value: Any) -> Reading:
            if value == "hang":
                await asyncio.sleep(60)
            return Reading(metric, DataType.DOUBLE, value, self._now_ms())

    class WritableConfig(DeafConfig):
        @asynccontextmanager
        async def open(self, now_ms: Clock) -> AsyncIterator[DeafSource]:
            yield Writable(self, now_ms)

    async def scenario() -> None:
        config = WritableConfig(name="s", interval_s=0.02, timeout_s=0.05, deaf=0)
        poller = Poller(config, lambda _: None, AnchoredClock().now_ms)
        with pytest.raises(SourceError, match="s is not open: starting"):
            await poller.write("a", 1.0)
        task = asyncio.create_task(poller.run())
        await eventually(lambda: poller.status.polls, "it is open")
        assert (await poller.write("a", 2.0)).value == 2.0
        with pytest.raises(TimeoutError):
            await poller.write("a", "hang")
        poller.stop()
        await task
        with pytest.raises(SourceError, match="not open"):
            await poller.write("a", 1.0)

    asyncio.run(scenario())
