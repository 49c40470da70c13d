"""Commands on their way from the broker to a source and back, and births that change under way."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from contract.commands import ANSWER, COMMAND_ID, RELOAD, CommandAnswer
from contract.config import ConfigError, parse_config
from contract.datatypes import DataType
from contract.sparkplug import Metric, Payload, encode
from contract.topics import MessageType, Topic
from edge.agent import Agent
from edge.config import AgentConfig
from edge.errors import SourceError
from edge.reading import MetricInfo, Reading
from edge.reporting import ReportRule
from edge.sources.base import Source, SourceConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from edge.sources.base import Clock
    from stack import Mosquitto

GROUP = "commands"


class ValveConfig(SourceConfig):
    """A valve that can be set, and a counter that cannot."""

    type: Literal["valve"] = "valve"
    also: str | None = None

    def metrics(self) -> Sequence[MetricInfo]:
        more = [] if self.also is None else [MetricInfo(self.also, DataType.INT64)]
        return [MetricInfo("n", DataType.INT64), MetricInfo("valve", DataType.DOUBLE, writable=True), *more]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[ValveSource]:
        yield ValveSource(self.name, now_ms)


class ValveSource(Source):
    def __init__(self, name: str, now_ms: Clock) -> None:
        self._name = name
        self._now_ms = now_ms
        self._polls = 0

    async def poll(self) -> list[Reading]:
        self._polls += 1
        return [Reading("n", DataType.INT64, self._polls, self._now_ms())]

    async def write(self, metric: str, value: Any) -> Reading:
        if value < 0:
            raise SourceError(f"{self._name}: {value:g} is below 0")
        return Reading(metric, DataType.DOUBLE, float(value), self._now_ms())


def a_config(directory: Path, *sources: ValveConfig, port: int) -> AgentConfig:
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
        "drain_timeout_s": 5,
    }
    return parse_config(document, AgentConfig, "edge.yaml").model_copy(update={"sources": sources})


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


def values(bridge: Any, name: str) -> list[object]:
    """What came through of a metric."""
    return [metric.value for m in bridge.batches() for metric in m.payload.metrics if metric.name == name]


def test_commands_over_the_broker_reload_and_write_and_are_answered(
    tmp_path: Path, broker: Mosquitto, new_bridge: Callable[..., Any], eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    def answers() -> dict[str | None, tuple[str | None, CommandAnswer]]:
        found = {}
        for message in bridge.batches():
            for metric in message.payload.metrics:
                if metric.name == ANSWER:
                    answer = CommandAnswer.from_metric(metric)
                    found[answer.command_id] = (message.topic.device, answer)
        return found

    def send(sent_id: str, name: str, value: Any, datatype: DataType, device: str | None = None) -> None:
        at_ms = time.time_ns() // 1_000_000
        metrics = (Metric(name, datatype, value, at_ms), Metric(COMMAND_ID, DataType.STRING, sent_id, at_ms))
        kind = MessageType.NCMD if device is None else MessageType.DCMD
        topic = str(Topic(GROUP, kind, "edge-1", device))
        bridge._client.publish(topic, encode(Payload(at_ms, metrics)), qos=1)

    async def scenario() -> None:
        file = File(a_config(tmp_path, ValveConfig(name="a", interval_s=0.05), port=broker.port))
        async with running(file):
            await eventually(lambda: bridge.of_type(MessageType.DBIRTH), "births")
            send("w1", "valve", 0.5, DataType.DOUBLE, "a")
            send("w2", "valve", -1.0, DataType.DOUBLE, "a")
            send("w3", "n", 5, DataType.INT64, "a")
            await eventually(lambda: {"w1", "w2", "w3"} <= answers().keys(), "answers to the writes")
            assert answers()["w1"] == ("a", CommandAnswer("valve", done=True, command_id="w1", value=0.5))
            assert answers()["w2"][1].reason == "a: -1 is below 0"
            assert answers()["w3"][1].reason == "the configuration does not allow to write it"
            assert values(bridge, "valve") == [0.5]
            also = ValveConfig(name="a", interval_s=0.05, also="more")
            file.config = a_config(tmp_path, also, ValveConfig(name="b", interval_s=0.05), port=broker.port)
            send("r1", RELOAD, value=True, datatype=DataType.BOOLEAN)
            await eventually(lambda: "r1" in answers(), "the answer to the reload")
            assert answers()["r1"] == (None, CommandAnswer(RELOAD, done=True, command_id="r1"))
            births = bridge.of_type(MessageType.DBIRTH)
            assert [birth.topic.device for birth in births] == ["a", "a", "b"]
            assert "more" in {metric.name for metric in births[1].payload.metrics}
            file.fault = "edge.yaml: is not YAML"
            send("r2", RELOAD, value=True, datatype=DataType.BOOLEAN)
            await eventually(lambda: "r2" in answers(), "the answer to the reload")
            assert "the old one goes on: edge.yaml: is not YAML" in str(answers()["r2"][1].reason)

    asyncio.run(scenario())
    times = [metric.timestamp_ms for m in bridge.batches() for metric in m.payload.metrics if metric.name == ANSWER]
    assert len(times) == len(set(times)), "each answer has a time of its own"


def test_after_births_every_metric_is_told_again(
    tmp_path: Path, broker: Mosquitto, new_bridge: Callable[..., Any], eventually: Any
) -> None:
    """Births carry no values: who asks for them would else know none of a metric that hardly changes."""
    bridge = new_bridge(broker.port, GROUP)
    rule = ReportRule(deadband=1e9)

    async def scenario() -> None:
        file = File(a_config(tmp_path, ValveConfig(name="a", interval_s=0.01, report=(rule,)), port=broker.port))
        async with running(file) as agent:
            await eventually(lambda: len(values(bridge, "n")) == 2, "the first of the run, and of the births")
            polls = agent._node.roster.pollers["a"].status.polls
            await eventually(lambda: agent._node.roster.pollers["a"].status.polls > polls + 20, "polls")
            assert len(values(bridge, "n")) == 2
            bridge.ask_rebirth("edge-1")
            await eventually(lambda: len(values(bridge, "n")) == 3, "told again")

    asyncio.run(scenario())
