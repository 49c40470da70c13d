"""A configuration that changes while the agent runs: nothing that was read is lost, what is unchanged never notices."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from contract.config import ConfigError, parse_config
from contract.datatypes import DataType
from contract.sparkplug import decode
from edge.agent import Agent
from edge.config import AgentConfig
from edge.errors import EdgeError, SpoolError
from edge.lane import Lane
from edge.reading import MetricInfo, Reading
from edge.reload import take_in
from edge.reporting import ReportRule
from edge.sources.base import Source, SourceConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from edge.sources.base import Clock

GROUP = "reloads"


class CountingConfig(SourceConfig):
    """Numbers its readings, over all that are called so; `takes_s` is what a poll takes."""

    type: Literal["counting"] = "counting"
    takes_s: float = 0.0

    def metrics(self) -> Sequence[MetricInfo]:
        return [MetricInfo("n", DataType.INT64)]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[CountingSource]:
        opened[self.name] += 1
        assert self.name not in at_work, "two at once on one device"
        at_work.add(self.name)
        try:
            yield CountingSource(self, now_ms)
        finally:
            at_work.discard(self.name)


numbers: dict[str, itertools.count[int]] = {}
given: dict[str, list[int]] = {}
opened: Counter[str] = Counter()
at_work: set[str] = set()


class CountingSource(Source):
    def __init__(self, config: CountingConfig, now_ms: Clock) -> None:
        self._config = config
        self._now_ms = now_ms

    async def poll(self) -> list[Reading]:
        name = self._config.name
        number = next(numbers.setdefault(name, itertools.count()))
        given.setdefault(name, []).append(number)
        await asyncio.sleep(self._config.takes_s)
        return [Reading("n", DataType.INT64, number, self._now_ms())]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    for ledger in (numbers, given, opened, at_work):
        ledger.clear()
    yield
    assert at_work == set(), "every source was closed"


def a_config(directory: Path, *sources: CountingConfig, port: int = 1, **more: Any) -> AgentConfig:
    document = {
        "group": GROUP,
        "node": "edge-1",
        "state_dir": directory / "state",
        "mqtt": {"host": "127.0.0.1", "port": port},
        "spool": {"commit_interval_s": 0.01},
        "sources": [
            {"type": "rest", "name": "x", "interval_s": 60, "preset": "open-meteo", "latitude": 1, "longitude": 2}
        ],
        "clock": {"wait_s": 0},
        "drain_timeout_s": 0,
    }
    return parse_config(document | more, AgentConfig, "edge.yaml").model_copy(update={"sources": sources})


class File:
    """What the agent reads again."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.fault: str | None = None

    def read(self) -> AgentConfig:
        if self.fault is not None:
            raise ConfigError(self.fault)
        return self.config


@asynccontextmanager
async def running(file: File) -> AsyncIterator[Agent]:
    """An agent at work, stopped in order at the end."""
    agent = Agent(file.config, file.read)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        agent.stop()
        await task


async def spooled(agent: Agent) -> dict[str, list[int]]:
    """The numbers of each source that lie in the spool, in order."""
    await agent._spool.flush()
    found: dict[str, list[int]] = {}
    for lane in Lane:
        for batch in await agent._spool.read_from(lane, 1, 1_000_000):
            values = [metric.value for metric in decode(batch.payload).metrics if metric.name == "n"]
            found.setdefault(batch.device, []).extend(value for value in values if isinstance(value, int))
    return {name: sorted(values) for name, values in found.items() if values}


def test_a_storm_of_reloads_loses_nothing_and_what_is_unchanged_never_notices(tmp_path: Path) -> None:
    luck = random.Random(7)
    steady = CountingConfig(name="steady", interval_s=0.01)

    def storm() -> list[CountingConfig]:
        others = [
            CountingConfig(name=name, interval_s=luck.choice([0.01, 0.02]), takes_s=luck.choice([0.0, 0.005, 0.05]))
            for name in ("a", "b", "c", "d")
            if luck.random() < 0.7
        ]
        luck.shuffle(others)
        return [*others, steady]

    async def scenario() -> None:
        file = File(a_config(tmp_path, *storm()))
        async with running(file) as agent:
            started_s = time.monotonic()
            for _ in range(40):
                file.config = file.config.model_copy(update={"sources": tuple(storm())})
                await agent.reload()
                assert list(agent._node.roster.pollers) == [source.name for source in file.config.sources]
                await asyncio.sleep(luck.uniform(0, 0.03))
            elapsed_s = time.monotonic() - started_s
            await agent._node.roster.end()
            assert await spooled(agent) == given
            assert opened["steady"] == 1
            assert len(given["steady"]) > elapsed_s / 0.01 / 4, "it was polled all the while"
            assert min(opened[name] for name in "abcd") > 5

    asyncio.run(scenario())


def test_a_wrong_configuration_is_refused_and_the_old_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    async def scenario() -> None:
        file = File(a_config(tmp_path, CountingConfig(name="a", interval_s=0.01)))
        async with running(file) as agent:
            await eventually(lambda: len(given.get("a", [])) > 3, "polls")
            file.fault = "edge.yaml: sources: found [], allowed: at least 1 item"
            with pytest.raises(EdgeError, match=r"refused, the old one goes on: edge.yaml: sources: found \[\]"):
                await agent.reload()
            agent.reload_soon()
            agent.reload_soon()
            await eventually(lambda: "allowed: at least 1 item" in caplog.text, "it is logged")
            count = len(given["a"])
            await eventually(lambda: len(given["a"]) > count + 3, "it goes on")
            assert opened["a"] == 1
            report: Any = await agent.report()
            assert report["reloads"] == 0

    asyncio.run(scenario())


def test_what_cannot_be_taken_in_is_told_and_the_rest_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = File(a_config(tmp_path, CountingConfig(name="a", interval_s=0.01)))
        async with running(file) as agent:
            new = CountingConfig(name="b", interval_s=0.01)
            file.config = a_config(tmp_path, new, port=2, node="edge-2", drain_timeout_s=0.01)
            assert await agent.reload() == "restart needed for: node, mqtt"
            assert list(agent._node.roster.pollers) == ["b"]
            report: Any = await agent.report()
            assert report["node"] == f"{GROUP}/edge-1"
            assert agent.config.drain_timeout_s == 0.01

    asyncio.run(scenario())


def test_every_key_is_either_taken_in_or_told(tmp_path: Path) -> None:
    old = a_config(tmp_path, CountingConfig(name="a", interval_s=1))
    for key in AgentConfig.model_fields:
        new = old.model_copy(update={key: object()})
        merged, fixed = take_in(old, new)
        assert (fixed == [key]) != (getattr(merged, key) is getattr(new, key)), key


def test_a_source_that_changes_tells_first_what_it_held_back(tmp_path: Path, eventually: Any) -> None:
    """Report by exception: the end of the old line, and the beginning of the new one, are both there."""
    rule = ReportRule(metrics="n", deadband=1e9)

    async def scenario() -> None:
        file = File(a_config(tmp_path, CountingConfig(name="a", interval_s=0.01, report=(rule,))))
        async with running(file) as agent:
            await eventually(lambda: len(given.get("a", [])) > 10, "polls")
            report: Any = await agent.report()
            assert report["sources"]["a"]["suppressed"] > 5
            file.config = a_config(tmp_path, CountingConfig(name="a", interval_s=0.02, report=(rule,)))
            await agent.reload()
            last = given["a"][-1]
            await eventually(lambda: len(given["a"]) > last + 2, "polls of the new one")
            assert {0, last, last + 1} <= set((await spooled(agent))["a"])
            assert len((await spooled(agent))["a"]) < 8

    asyncio.run(scenario())


def test_a_stop_while_a_reload_waits_for_a_slow_source_ends_both(tmp_path: Path, eventually: Any) -> None:
    async def scenario() -> None:
        slow = CountingConfig(name="slow", interval_s=0.01, takes_s=0.5)
        file = File(a_config(tmp_path, slow))
        async with running(file) as agent:
            await eventually(lambda: given.get("slow"), "a poll in flight")
            file.config = a_config(tmp_path, CountingConfig(name="other", interval_s=0.01))
            reloading = asyncio.create_task(agent.reload())
            await asyncio.sleep(0.05)
            agent.stop()
            await reloading
            with pytest.raises(EdgeError, match="stopping"):
                await agent.reload()

    asyncio.run(scenario())


def test_a_reload_that_is_asked_for_during_one_is_not_forgotten(tmp_path: Path, eventually: Any) -> None:
    async def scenario() -> None:
        slow = CountingConfig(name="slow", interval_s=0.01, takes_s=0.3)
        file = File(a_config(tmp_path, slow))
        async with running(file) as agent:
            await eventually(lambda: given.get("slow"), "a poll in flight")
            file.config = a_config(tmp_path, CountingConfig(name="first", interval_s=0.01))
            agent.reload_soon()
            await eventually(agent._reloading.lock.locked, "it waits for the slow one")
            await asyncio.sleep(0.05)
            file.config = a_config(tmp_path, CountingConfig(name="second", interval_s=0.01))
            agent.reload_soon()
            await eventually(lambda: list(agent._node.roster.pollers) == ["second"], "the second file is taken in too")

    asyncio.run(scenario())


def test_a_renamed_source_waits_for_the_line_that_it_has_under_its_old_name(tmp_path: Path, eventually: Any) -> None:
    async def scenario() -> None:
        file = File(a_config(tmp_path, CountingConfig(name="old", interval_s=0.01, takes_s=0.2)))
        async with running(file) as agent:
            await eventually(lambda: given.get("old"), "a poll in flight")
            file.config = a_config(tmp_path, CountingConfig(name="new", interval_s=0.01))
            reloading = asyncio.create_task(agent.reload())
            while not reloading.done():
                assert len(at_work) <= 1, "two at once on one line"
                await asyncio.sleep(0.005)
            await eventually(lambda: given.get("new"), "polls under the new name")

    asyncio.run(scenario())


def test_a_stop_does_not_wait_for_a_poll_that_may_take_minutes(
    tmp_path: Path, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.agent._ENDING_S", 0.1)

    async def scenario() -> None:
        slow = CountingConfig(name="slow", interval_s=0.01, takes_s=500, timeout_s=600)
        file = File(a_config(tmp_path, slow))
        async with running(file) as agent:
            await eventually(lambda: given.get("slow"), "a poll in flight")
            file.config = a_config(tmp_path, CountingConfig(name="other", interval_s=0.01))
            reloading = asyncio.create_task(agent.reload())
            await asyncio.sleep(0.02)
            stopped_s = time.monotonic()
        assert time.monotonic() - stopped_s < 5
        await reloading

    asyncio.run(scenario())


def test_a_stop_waits_for_no_spool_that_hangs_or_fails(
    tmp_path: Path, eventually: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.agent._ENDING_S", 0.1)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise SpoolError("the card is gone")

    async def scenario() -> None:
        source = CountingConfig(name="a", interval_s=0.01)
        async with running(File(a_config(tmp_path, source, drain_timeout_s=0.2))) as agent:
            await eventually(lambda: given.get("a"), "polls")
            monkeypatch.setattr(agent._spool, "flush", hang)
            monkeypatch.setattr(agent._spool, "extents", fail)
            stopped_s = time.monotonic()
        assert time.monotonic() - stopped_s < 5

    asyncio.run(scenario())
    assert "unexpected" not in caplog.text
    assert "for the next run to deliver" in caplog.text
