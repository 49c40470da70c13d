"""A site in time, and the port at which faults are put in by hand and counts are asked for."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic import RootModel

from contract.config import ConfigError, parse_config
from simulators.ledger import now_ms
from simulators.plant.faults import Fault, check_unit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from simulators.ledger import Ledger
    from simulators.plant.counts import Counts
    from simulators.plant.schedule import ScheduledFault
    from simulators.plant.site import Site

logger = logging.getLogger(__name__)

# A site with shorter steps is moved by those who ask, and by this.
_SHORTEST_TICK_S: Final = 0.02


class _AnyFault(RootModel[Fault]):
    """A fault alone, as it comes in at the control port."""


class Works:
    """Keeps a site at the step that the clock says, and the ledger told of its faults."""

    def __init__(self, site: Site, ledger: Ledger, step_s: float) -> None:
        self._site, self._ledger, self._step_s = site, ledger, step_s
        self._started_at, self._started_s = now_ms(), time.monotonic()

    def catch_up(self) -> None:
        """Move the site to now."""
        step = int((time.monotonic() - self._started_s) / self._step_s)
        if step <= self._site.step:
            return
        started, ended = self._site.move_to(step)
        for scheduled in started:
            self._note(scheduled, None)
        for scheduled in ended:
            self._note(scheduled, self._at(scheduled.to_step))

    @asynccontextmanager
    async def going_on(self, name: str) -> AsyncGenerator[None]:
        """The site moves while nobody asks; what still lasts at the end is noted as over."""
        ticking = asyncio.create_task(self._tick(), name=f"{name}: time")
        try:
            yield
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            for scheduled in self._site.active:
                self._note(scheduled, now_ms())

    async def _tick(self) -> None:
        while True:
            self.catch_up()
            next_s = self._started_s + (self._site.step + 1) * self._step_s
            await asyncio.sleep(max(next_s - time.monotonic(), _SHORTEST_TICK_S))

    def _note(self, scheduled: ScheduledFault, ended_at: int | None) -> None:
        logger.info("%s %s", scheduled.fault.label, "begins" if ended_at is None else "is over")
        self._ledger.incident(scheduled.fault.label, self._at(scheduled.from_step), ended_at)

    def _at(self, step: int) -> int:
        return self._started_at + round(step * self._step_s * 1000)


class Control:
    """Answers each line of JSON with a line: a fault with {"label": ...}, {"counts": RESET} with the counts."""

    def __init__(self, site: Site, works: Works, counts: Counts) -> None:
        self._site, self._works, self._counts = site, works, counts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._take(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as exc:
            logger.warning("control connection dropped: %s", exc)
        finally:
            writer.close()

    def _take(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            if isinstance(asked, dict) and asked.keys() == {"counts"}:
                return self._count(resets=asked["counts"] == "reset")
            fault = parse_config(asked, _AnyFault, "control").root
            check_unit(fault, self._site.unit_ids)
            self._works.catch_up()
            self._site.inject(fault)
        except (ConfigError, ValueError, RecursionError) as exc:  # RecursionError: brackets without end
            return {"error": str(exc)}
        return {"label": fault.label}

    def _count(self, *, resets: bool) -> dict[str, Any]:
        counted = self._counts.as_json()
        if resets:
            self._counts.reset()
        return counted


@asynccontextmanager
async def control_port(control: Control, host: str) -> AsyncGenerator[int]:
    """The port at which the control listens."""
    server = await asyncio.start_server(control.serve, host, 0)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
