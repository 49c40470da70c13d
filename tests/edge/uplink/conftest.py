"""A spool and an uplink without sources, a broker that a test may kill, and a bridge that does as it is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from contract.datatypes import DataType
from edge.batch import NODE, batches_of_poll, gap_batch
from edge.clock import AnchoredClock
from edge.health.node_metrics import node_metrics
from edge.lane import Lane
from edge.reading import MetricInfo, Reading
from edge.spool import Spool, SpoolLimits
from edge.uplink import MqttConfig, NodeIdentity, Uplink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from contract.sparkplug import Payload
    from stack import Mosquitto

GROUP = "uplink"
NODE_ID = "edge-1"
LEVEL = MetricInfo("level", DataType.DOUBLE, "m", "water")
BRISK = {"resend_after_s": 0.5, "resend_max_s": 2.0, "window": 32}


class Rig:
    """A spool and an uplink: the test puts the readings in."""

    def __init__(self, port: int, directory: Path, **mqtt: Any) -> None:
        self.clock = AnchoredClock()
        self.commands: list[tuple[str, Payload]] = []
        self.spool = Spool(
            directory / "state",
            SpoolLimits(max_bytes=1 << 28, buffer_bytes=1 << 26, commit_interval_s=0.01),
            self.clock.now_ms,
            lambda device, gap: gap_batch(device, gap, self.clock.now_ms()),
            self._committed,
        )
        self.uplink = Uplink(
            MqttConfig(host="127.0.0.1", port=port, **(BRISK | mqtt)),
            self.identity("plant"),
            self.spool,
            self.clock.now_ms,
            on_command=lambda device, command: self.commands.append((device, command)),
        )

    def _committed(self) -> None:
        self.uplink.wake()

    @staticmethod
    def identity(*devices: str) -> NodeIdentity:
        return NodeIdentity(GROUP, NODE_ID, {NODE: node_metrics(())} | {device: [LEVEL] for device in devices})

    def put(self, count: int, lane: Lane = Lane.LIVE, *, first: float = 0) -> None:
        """So many batches of one reading each, whose values go up from the first."""
        now_ms = self.clock.now_ms()
        for n in range(count):
            readings = [Reading("level", DataType.DOUBLE, first + n, now_ms + n)]
            for batch in batches_of_poll("plant", readings, now_ms + n, now_ms + n, lane):
                self.spool.put(batch)

    def put_backlog(self, count: int) -> None:
        """What was read while nothing could be delivered."""
        self.spool.divert(True)  # noqa: FBT003 - as the spool has it
        self.put(count)
        self.spool.divert(False)  # noqa: FBT003 - as the spool has it

    async def depth(self, lane: Lane | None = None) -> int:
        await self.spool.flush()
        extents = await self.spool.extents()
        return sum(extent.depth for extent in extents.values()) if lane is None else extents[lane].depth

    async def delivered(self, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.depth():  # noqa: ASYNC110 - only the spool knows
                await asyncio.sleep(0.02)


@dataclass
class Site:
    """Where a node is: its directory, and what waits and starts things in a test's words."""

    directory: Path
    new_bridge: Callable[..., Any]
    wait_for: Callable[..., None]
    eventually: Callable[..., Any]
    broker: Mosquitto | None = None
    group: str = GROUP
    node: str = NODE_ID

    @property
    def port(self) -> int:
        assert self.broker is not None
        return self.broker.port

    def bridge(self, port: int | None = None, *, answers: bool = True) -> Any:
        return self.new_bridge(port or self.port, GROUP, answers=answers)

    def rig(self, **mqtt: Any) -> Rig:
        return Rig(mqtt.pop("port", None) or self.port, self.directory, **mqtt)

    @asynccontextmanager
    async def running(self, **mqtt: Any) -> AsyncIterator[Rig]:
        """The rig at work; ended without draining."""
        rig = self.rig(**mqtt)
        await rig.spool.start()
        async with self.at_work(rig):
            yield rig

    @asynccontextmanager
    async def at_work(self, rig: Rig) -> AsyncIterator[None]:
        """The uplink of a rig whose spool is open."""
        task = asyncio.create_task(rig.uplink.run())
        try:
            yield
            assert not task.done(), "the uplink must not end by itself"
        finally:
            task.cancel()
            await asyncio.wait([task])
            await rig.spool.close(clean=True)


@pytest.fixture
def far_site(tmp_path: Path, new_bridge: Callable[..., Any], wait_for: Any, eventually: Any) -> Site:
    """A site whose broker the test starts itself."""
    return Site(tmp_path, new_bridge, wait_for, eventually)


@pytest.fixture
def site(broker: Mosquitto, far_site: Site) -> Site:
    """A site with a broker."""
    far_site.broker = broker
    return far_site
