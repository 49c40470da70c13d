"""The supervising loop, with sources that do as they are told."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.clock import AnchoredClock
from edge.errors import SourceError
from edge.polling import Poll, Poller
from edge.reading import MetricInfo, Reading
from edge.sources.base import Source, SourceConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from edge.sources.base import Clock


class ScriptedConfig(SourceConfig):
    """Each poll does the next thing of the script; the last one for ever."""

    type: Literal["scripted"] = "scripted"
    script: tuple[str, ...] = ("ok",)
    fails_to_open: int = 0
    remaining: float | None = None
    fails_to_close: bool = False

    def metrics(self) -> Sequence[MetricInfo]:
        return [MetricInfo("a", DataType.DOUBLE), MetricInfo("b", DataType.BOOLEAN)]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[ScriptedSource]:
        opened = OPENED.setdefault(self.name, itertools.count())
        if next(opened) < self.fails_to_open:
            raise SourceError(f"{self.name}: no such line")
        yield ScriptedSource(self, now_ms)
        if self.fails_to_close:
            raise OSError("the line is gone")


class ScriptedSource(Source):
    def __init__(self, config: ScriptedConfig, now_ms: Clock) -> None:
        self._config = config
        self._now_ms = now_ms

    async def poll(self) -> list[Reading]:
        n = next(POLLED.setdefault(self._config.name, itertools.count()))
        match self._config.script[min(n, len(self._config.script) - 1)]:
            case "fail":
                raise SourceError(f"{self._config.name}: unit 3 does not answer")
            case "break":
                raise ZeroDivisionError("a fault of ours")
            case "hang":
                await asyncio.sleep(60)
            case "slow":
                await asyncio.sleep(0.3)
            case "nothing":
                return []
        return [Reading("a", DataType.DOUBLE, float(n), self._now_ms())]

    def remaining(self) -> list[Reading]:
        value = self._config.remaining
        return [] if value is None else [Reading("a", DataType.DOUBLE, value, self._now_ms())]


OPENED: dict[str, itertools.count[int]] = {}
POLLED: dict[str, itertools.count[int]] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    OPENED.clear()
    POLLED.clear()


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.polling.backoff_s", lambda *_args, **_kwargs: 0.01)


def run(
    configs: Sequence[ScriptedConfig],
    until: Callable[[dict[str, list[Poll]]], object],
    eventually: Callable[..., Awaitable[None]],
) -> tuple[dict[str, list[Poll]], dict[str, Poller]]:
    """Polls until a condition holds, then stops in order."""
    polls: dict[str, list[Poll]] = {config.name: [] for config in configs}

    async def scenario() -> dict[str, Poller]:
        clock = AnchoredClock()
        pollers = {c.name: Poller(c, lambda poll: polls[poll.source].append(poll), clock.now_ms) for c in configs}
        async with asyncio.TaskGroup() as group:
            for poller in pollers.values():
                group.create_task(poller.run())
            await eventually(lambda: until(polls), "the condition")
            for poller in pollers.values():
                poller.stop()
        return pollers

    pollers = asyncio.run(scenario())
    return polls, pollers


def test_a_source_is_polled_on_schedule(eventually: Any) -> None:
    polls, pollers = run([ScriptedConfig(name="s", interval_s=0.05)], lambda p: len(p["s"]) >= 10, eventually)
    times = [poll.started_ms for poll in polls["s"]]
    # Never faster than the schedule; what a busy machine missed is counted, so that all ticks are accounted for.
    assert all(at - times[0] >= 50 * n - 49 for n, at in enumerate(times))
    poller = pollers["s"]
    assert poller._tick.index == len(times) + poller.status.skipped_ticks
    status = pollers["s"].status
    assert (status.state, status.error, status.polls, status.failures) == ("ok", None, len(polls["s"]), 0)
    assert status.last == {"a": float(len(polls["s"]) - 1)}


def test_a_failed_poll_leaves_a_bad_reading_of_every_metric_and_is_told_once(
    eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = ScriptedConfig(name="s", interval_s=0.02, script=("ok", "fail", "fail", "fail", "ok"))
    polls, pollers = run([config], lambda p: len(p["s"]) >= 6, eventually)
    bad = [poll for poll in polls["s"] if poll.readings[0].quality is Quality.BAD]
    assert len(bad) == 3
    assert [(r.metric, r.value) for r in bad[0].readings] == [("a", None), ("b", None)]
    assert bad[0].readings[0].sampled_at_ms == bad[0].finished_ms
    told = [record.message for record in caplog.records]
    assert len([m for m in told if "unit 3 does not answer" in m]) == 1
    assert len([m for m in told if "works again after 3 failed polls" in m]) == 1
    assert pollers["s"].status.failures == 3
    assert pollers["s"].status.state == "ok"
    assert next(OPENED["s"]) == 4, "it is opened anew after each failure"


@pytest.mark.parametrize(("fault", "error"), [("hang", "no answer within 0.1 s"), ("break", "unexpected ZeroDivision")])
def test_what_hangs_or_breaks_is_a_failed_poll_too(eventually: Any, fault: str, error: str) -> None:
    config = ScriptedConfig(name="s", interval_s=0.02, timeout_s=0.1, script=(fault,))
    _, pollers = run([config], lambda p: len(p["s"]) >= 2, eventually)
    assert pollers["s"].status.state == "failing"
    assert error in (pollers["s"].status.error or "")


def test_a_source_that_cannot_be_opened_is_tried_until_it_can(eventually: Any) -> None:
    config = ScriptedConfig(name="s", interval_s=0.02, fails_to_open=3)
    polls, _ = run([config], lambda p: len(p["s"]) >= 5, eventually)
    assert [poll.readings[0].quality for poll in polls["s"][:4]] == [Quality.BAD] * 3 + [Quality.GOOD]


def test_one_source_never_delays_another(eventually: Any) -> None:
    configs = [
        ScriptedConfig(name="dead", interval_s=0.05, timeout_s=5, script=("hang",)),
        ScriptedConfig(name="alive", interval_s=0.05),
    ]
    started = time.monotonic()

    async def hasty(condition: Callable[[], object], what: str) -> None:
        await eventually(condition, what)
        for task in asyncio.all_tasks():
            if task.get_coro().__qualname__ == "Poller.run":  # type: ignore[union-attr]  # coroutines have one
                task.cancel()

    polls, _ = run(configs, lambda p: len(p["alive"]) >= 10, hasty)
    assert time.monotonic() - started < 3
    assert polls["dead"] == []


def test_a_source_that_brings_nothing_and_then_fails_again_has_not_recovered(
    eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera that is away: its process runs, no frame comes, and after a while it says so."""
    caplog.set_level("INFO")
    away = ("fail", "nothing", "nothing", "fail", "nothing", "fail", "ok")
    config = ScriptedConfig(name="s", interval_s=0.02, script=away)
    _, pollers = run(
        [config], lambda p: any(poll.readings and poll.readings[0].value is not None for poll in p["s"]), eventually
    )
    told = [record.message for record in caplog.records if record.name == "edge.polling"]
    assert [line.partition(";")[0] for line in told] == [
        "s: s: unit 3 does not answer",
        "s: works again after 3 failed polls",
    ]
    assert pollers["s"].status.state == "ok"


def test_a_source_that_has_nothing_to_say_for_long_works_all_the_same(eventually: Any) -> None:
    """An exchange that is closed: each request is answered, and brings nothing new."""
    config = ScriptedConfig(name="s", interval_s=0.02, timeout_s=0.1, script=("fail", "nothing"))

    async def scenario() -> None:
        poller = Poller(config, lambda _: None, AnchoredClock().now_ms)
        task = asyncio.create_task(poller.run())
        await eventually(lambda: poller.status.state == "failing", "the failure")
        await eventually(lambda: poller.status.state == "ok", "the recovery")
        assert poller.status.polls > 5
        poller.stop()
        await task

    asyncio.run(scenario())


def test_a_slow_source_skips_ticks_and_counts_them(eventually: Any) -> None:
    config = ScriptedConfig(name="s", interval_s=0.1, script=("slow",))
    polls, pollers = run([config], lambda p: len(p["s"]) >= 3, eventually)
    assert pollers["s"].status.skipped_ticks >= 2 * (len(polls["s"]) - 1)


def test_a_stop_lets_the_poll_in_flight_end_and_keeps_it(eventually: Any) -> None:
    config = ScriptedConfig(name="s", interval_s=0.01, script=("slow",))
    polls, _ = run([config], lambda _: "s" in POLLED, eventually)
    assert [reading.value for reading in polls["s"][0].readings] == [0.0]


def test_a_source_that_fails_in_closing_leaves_no_failed_poll(eventually: Any) -> None:
    config = ScriptedConfig(name="s", interval_s=0.02, fails_to_close=True)
    polls, pollers = run([config], lambda p: len(p["s"]) >= 2, eventually)
    assert {reading.quality for poll in polls["s"] for reading in poll.readings} == {Quality.GOOD}
    assert (pollers["s"].status.state, pollers["s"].status.failures) == ("ok", 0)


def test_jitter_skips_no_tick(eventually: Any) -> None:
    async def scenario() -> None:
        poller = Poller(ScriptedConfig(name="s", interval_s=0.2), lambda _: None, AnchoredClock().now_ms, jitter_s=60)
        task = asyncio.create_task(poller.run())
        await eventually(lambda: poller.status.polls >= 3, "polls")
        poller.stop()
        await task
        assert poller._tick.index == poller.status.polls + poller.status.skipped_ticks

    asyncio.run(scenario())


def test_poll_once_raises_what_is_wrong() -> None:
    poller = Poller(ScriptedConfig(name="s", interval_s=1, script=("fail",)), print, AnchoredClock().now_ms)
    with pytest.raises(SourceError, match="unit 3"):
        asyncio.run(poller.poll_once())


@pytest.mark.parametrize("script", [("ok",), ("fail",), ("hang",), ("break",)])
def test_what_a_source_still_has_when_it_is_closed_is_kept(eventually: Any, script: tuple[str, ...]) -> None:
    config = ScriptedConfig(name="s", interval_s=0.02, timeout_s=0.1, script=script, remaining=7.0)
    polls, _ = run([config], lambda _: "s" in POLLED, eventually)
    kept = [reading.value for poll in polls["s"] for reading in poll.readings if reading.quality is Quality.GOOD]
    assert kept.count(7.0) == next(OPENED["s"]), "once for each time that it was closed"


def test_poll_once_waits_for_a_source_that_has_nothing_yet() -> None:
    clock = AnchoredClock()
    late = Poller(ScriptedConfig(name="s", interval_s=1, script=("nothing", "nothing", "ok")), print, clock.now_ms)
    assert [reading.value for reading in asyncio.run(late.poll_once()).readings] == [2.0]
    mute = Poller(ScriptedConfig(name="t", interval_s=1, timeout_s=0.2, script=("nothing",)), print, clock.now_ms)
    with pytest.raises(TimeoutError):
        asyncio.run(mute.poll_once())
