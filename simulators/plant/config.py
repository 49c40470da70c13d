"""The plant as a simulator: its configuration, its clock, and the port at which faults are put in by hand."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, RootModel

from contract.config import ConfigError, parse_config
from simulators.ledger import Match, now_ms
from simulators.plant.faults import Fault, RandomFaults
from simulators.plant.line import Plant
from simulators.plant.server import Connection
from simulators.simulator import Running, SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from simulators.ledger import Ledger
    from simulators.plant.faults import ScheduledFault

logger = logging.getLogger(__name__)


class PlantConfig(SimulatorConfig):
    """A water-treatment line behind a Modbus TCP server of four units."""

    match: ClassVar[Match] = Match.SERVED

    type: Literal["plant"] = "plant"
    step_s: float = Field(default=0.1, ge=0.01, le=10.0, description="Time step of the physics, s")
    day_s: float = Field(default=86_400.0, gt=0, description="Length of a day of the plant, s: short ones show more")
    faults: tuple[Fault, ...] = Field(default=(), description="Faults at given times")
    random_faults: RandomFaults | None = Field(default=None, description="Faults drawn from the seed")

    def scheduled_faults(self) -> tuple[Fault, ...]:
        """All faults of the scenario, given and drawn."""
        return (*self.faults, *(self.random_faults.draw(self.seed) if self.random_faults else ()))

    @asynccontextmanager
    async def run(self, ledger: Ledger) -> AsyncGenerator[Running]:
        """Serve Modbus at `host`:`port`, and take faults as lines of JSON at `control_port`."""
        plant = Plant(self.seed, self.scheduled_faults(), step_s=self.step_s, day_s=self.day_s)
        works = _Works(plant, ledger, self.step_s)
        loop, connections = asyncio.get_running_loop(), set[Connection]()
        server = await loop.create_server(
            lambda: Connection(plant, ledger, works.catch_up, connections), self.host, self.port
        )
        control = await asyncio.start_server(works.take_faults, self.host, 0)
        ticking = asyncio.create_task(works.tick(), name=f"{self.name}: physics")
        try:
            yield Running({"host": self.host, "port": _port(server), "control_port": _port(control)})
        finally:
            ticking.cancel()
            for listening in (server, control):
                listening.close()
            for connection in tuple(connections):
                connection.close()
            await asyncio.gather(ticking, return_exceptions=True)
            works.end_incidents()


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


class _AnyFault(RootModel[Fault]):
    """A fault alone, as it comes in at the control port."""


class _Works:
    """Keeps a plant at the step that the clock says, and the ledger told of its faults."""

    def __init__(self, plant: Plant, ledger: Ledger, step_s: float) -> None:
        self._plant, self._ledger, self._step_s = plant, ledger, step_s
        self._started_at, self._started_s = now_ms(), time.monotonic()

    def catch_up(self) -> None:
        """Move the plant to now."""
        step = int((time.monotonic() - self._started_s) / self._step_s)
        started, ended = self._plant.move_to(step)
        for scheduled in started:
            self._note(scheduled, None)
        for scheduled in ended:
            self._note(scheduled, self._at(scheduled.to_step))

    async def tick(self) -> None:
        """Keep the plant moving while nobody asks."""
        while True:
            self.catch_up()
            next_s = self._started_s + (self._plant.step + 1) * self._step_s
            await asyncio.sleep(max(next_s - time.monotonic(), 0.0))

    def end_incidents(self) -> None:
        """Note the end of what still lasts."""
        for scheduled in self._plant.active:
            self._note(scheduled, now_ms())

    async def take_faults(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each line, a fault as JSON, with a line {"label": ...} or {"error": ...}."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._take(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as exc:
            logger.warning("control connection dropped: %s", exc)
        finally:
            writer.close()

    def _take(self, line: bytes) -> dict[str, str]:
        try:
            fault = parse_config(json.loads(line), _AnyFault, "fault").root
        except (ConfigError, ValueError) as exc:
            return {"error": str(exc)}
        self.catch_up()
        self._plant.inject(fault)
        return {"label": fault.label}

    def _note(self, scheduled: ScheduledFault, ended_at: int | None) -> None:
        logger.info("%s %s", scheduled.fault.label, "begins" if ended_at is None else "is over")
        self._ledger.incident(scheduled.fault.label, self._at(scheduled.from_step), ended_at)

    def _at(self, step: int) -> int:
        return self._started_at + round(step * self._step_s * 1000)
