"""What the agent declares at its start, and until when."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from contract.config import parse_config
from contract.datatypes import DataType
from contract.delivery import GAP, Gap
from contract.sparkplug import decode
from edge.agent import Agent
from edge.config import AgentConfig
from edge.lane import Lane
from edge.polling import Poll
from edge.reading import Reading
from edge.spool import Beginning

if TYPE_CHECKING:
    from pathlib import Path


MADE_MS = 1_710_000_000_000


def an_agent(state_dir: Path) -> Agent:
    place = {"preset": "open-meteo", "latitude": 1, "longitude": 2}
    weather = {"type": "rest", "name": "weather", "interval_s": 10, **place}
    document = {"group": "g", "node": "n", "state_dir": state_dir, "mqtt": {"host": "h"}, "sources": [weather]}
    document |= {"clock": {"wait_s": 0}}
    return Agent(parse_config(document, AgentConfig, "edge.yaml"))


def poll(sampled_at_ms: int) -> Poll:
    reading = Reading("temperature_2m", DataType.DOUBLE, 1.0, sampled_at_ms)
    return Poll("weather", [reading], sampled_at_ms, sampled_at_ms)


def declared(agent: Agent) -> list[Gap]:
    metrics = [metric for batch in agent._spool._inbox._buffer._batches for metric in decode(batch.payload).metrics]
    return [Gap.from_metric(metric) for metric in metrics if metric.name == GAP]


@pytest.mark.parametrize(("clean", "reason"), [(True, "agent stopped"), (False, "agent killed")])
def test_the_gap_between_two_runs_waits_for_a_poll_that_is_later(tmp_path: Path, *, clean: bool, reason: str) -> None:
    async def scenario() -> None:
        agent = an_agent(tmp_path)
        agent._node.foresee_gaps(Beginning(1, clean, {"weather": 1000, "gone": 5}))
        # The clock is behind, as after a boot without a network, or the weather is still the same.
        agent._node.keep(poll(400))
        agent._node.keep(poll(1000))
        assert declared(agent) == []
        agent._node.keep(poll(1500))
        agent._node.keep(poll(1600))
        assert declared(agent) == [Gap(1000, 1500, reason)]

    asyncio.run(scenario())


def test_what_a_spoilt_spool_held_is_declared_for_every_source_also_by_the_run_after_one_that_was_killed(
    tmp_path: Path,
) -> None:
    (tmp_path / f"spool-{MADE_MS}.db").write_bytes(b"garbage" * 1000)

    async def scenario() -> None:
        killed = an_agent(tmp_path)
        await killed._spool.start()
        await killed._spool.close(clean=False)
        agent = an_agent(tmp_path)
        await agent._spool.start()
        async with asyncio.timeout(20):
            while len(batches := await agent._spool.read_from(Lane.LIVE, 1, 10)) < 1:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        (batch,) = batches
        gap = Gap.from_metric(decode(batch.payload).metrics[0])
        assert (batch.device, gap.from_ms, gap.reason) == ("weather", MADE_MS, "spool corrupt")
        assert abs(gap.to_ms - time.time() * 1000) < 60_000
        await agent._spool.close(clean=True)

    asyncio.run(scenario())
