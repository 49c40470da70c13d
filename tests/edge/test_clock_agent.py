"""The whole agent on a device without a battery clock: what it reads before NTP arrives with the time it had."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import edge.agent
from contract.commands import RELOAD
from contract.config import parse_config
from contract.datatypes import DataType
from contract.sparkplug import Metric, Payload, Quality
from contract.topics import MessageType
from edge.agent import Agent
from edge.clock import AnchoredClock, MachineClock
from edge.config import AgentConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from stack import Mosquitto

DAY_NS = 86_400 * 10**9


class Device:
    """This machine, but for a wall clock that stands where it was switched off a day ago, until the network sets it."""

    is_set = False

    def clock(self, wait_s: float) -> AnchoredClock:
        machine = MachineClock(
            wall_ns=lambda: time.time_ns() - (0 if self.is_set else DAY_NS),
            since_boot_ns=lambda: time.monotonic_ns() - self.booted_ns,
            is_synchronised=lambda: self.is_set,
        )
        return AnchoredClock(wait_s, machine)

    @property
    def wall_ms(self) -> int:
        return (time.time_ns() - DAY_NS) // 10**6

    def __init__(self) -> None:
        self.booted_ns = time.monotonic_ns() - 30 * 10**9


async def scenario(document: dict[str, Any], device: Device, bridge: Any, eventually: Any) -> None:
    agent = Agent(parse_config(document, AgentConfig, "edge.yaml"))
    running = asyncio.create_task(agent.run())
    await eventually(
        lambda: bridge.of_type(MessageType.NBIRTH), "the births: a node without a clock is there all the same"
    )
    await eventually(lambda: agent._spool.undated_batches > 10, "readings")
    report: Any = await agent.report()
    assert report["clock"]["state"] == "waiting"
    assert "may yet be set" in report["clock"]["explanation"]
    metrics = (Metric(RELOAD, DataType.BOOLEAN, value=True, timestamp_ms=device.wall_ms),)
    bridge.command("n", Payload(device.wall_ms, metrics))
    await eventually(lambda: agent._commands.refused, "a command, of which nobody can say whether it is an old one")
    assert not bridge.batches(), "nothing is told with a time that may be wrong"
    device.is_set = True
    await eventually(lambda: len(bridge.batches()) > 20, "all of it")
    report = await agent.report()
    assert report["clock"]["state"] == "synchronised"
    agent.stop()
    await running


def test_readings_of_before_ntp_arrive_with_the_time_they_had(
    broker: Mosquitto,
    new_bridge: Callable[..., Any],
    weather_api: tuple[Any, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Any,
) -> None:
    bridge, device = new_bridge(broker.port, "clocks"), Device()
    monkeypatch.setattr(edge.agent, "AnchoredClock", device.clock)
    weather = {"type": "rest", "name": "weather", "preset": "open-meteo", "limits": {}, "interval_s": 0.1}
    weather |= {"base_url": weather_api[1], "latitude": 1, "longitude": 2, "only": ["temperature_2m"]}
    document = {
        "group": "clocks",
        "node": "n",
        "state_dir": str(tmp_path / "state"),
        "mqtt": {"host": "127.0.0.1", "port": broker.port},
        "health_interval_s": 0.05,
        "sources": [weather],
    }
    started_ms = time.time() * 1000
    asyncio.run(scenario(document, device, bridge, eventually))
    batches = [message for message in bridge.batches() if message.topic.message_type is MessageType.NDATA]
    times = [metric.timestamp_ms for message in batches for metric in message.payload.metrics]
    assert all(started_ms - 5 <= at_ms <= time.time() * 1000 for at_ms in times)
    assert {metric.quality for message in batches for metric in message.payload.metrics} == {Quality.GOOD}
    served = {at_ms for at_ms, _ in weather_api[0].served}
    told = {m.timestamp_ms for message in bridge.of_type(MessageType.DDATA) for m in message.payload.metrics}
    assert told == served, "what the API dated it had dated right"
