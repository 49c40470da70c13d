"""What the simulators of Modbus lines share: how the line is reached, what it puts up with, how it is served."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulators.ledger import Match
from simulators.plant.answering import Line
from simulators.plant.control import Control, Works, control_port
from simulators.plant.framing import RtuFraming, TcpFraming
from simulators.plant.limits import Limits
from simulators.plant.server import listening, on_serial_port
from simulators.simulator import Running, SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from simulators.ledger import Ledger
    from simulators.plant.points import PlantPoint
    from simulators.plant.site import Site

logger = logging.getLogger(__name__)


class LineConfig(SimulatorConfig):
    """A Modbus line."""

    match: ClassVar[Match] = Match.SERVED

    transport: Literal["tcp", "rtu_over_tcp", "serial"] = Field(
        default="tcp", description="Modbus TCP, RTU frames over TCP, or RTU on a serial port"
    )
    device: Path | None = Field(default=None, description="The tty of a serial line; a pty is made where there is none")
    link: Path | None = Field(default=None, description="Symbolic link made to the client's end of that pty")
    baud: int | None = Field(
        default=None,
        ge=50,
        description="Of a serial line, bit/s; where not given a pty takes no time, a tty stays as is",
    )
    limits: Limits = Field(default=Limits(), description="What the device puts up with")

    @model_validator(mode="after")
    def _serial_keys_fit(self) -> Self:
        given = [key for key in ("device", "link", "baud") if getattr(self, key) is not None]
        if given and self.transport != "serial":
            raise ValueError(f"{given[0]} is for transport serial")
        if self.device is not None and self.link is not None:
            raise ValueError("link is for a pty: leave out device")
        return self

    def units(self) -> Mapping[int, Sequence[PlantPoint]]:
        """Every unit's points."""
        raise NotImplementedError

    @asynccontextmanager
    async def serve(self, site: Site, ledger: Ledger, step_s: float) -> AsyncGenerator[Running]:
        """Serve a site, and take faults as lines of JSON at `control_port`."""
        works = Works(site, ledger, step_s)
        line = Line(site, self.limits, ledger, works.catch_up, self.seed)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(works.going_on(self.name))
            await stack.enter_async_context(line.pulse.beating(self.name))
            control = Control(site, works, line.counts)
            where: dict[str, str | int] = {
                "control_port": await stack.enter_async_context(control_port(control, self.host))
            }
            if self.transport == "serial":
                where["device"] = await stack.enter_async_context(
                    on_serial_port(line, self.device, self.link, self.baud)
                )
            else:
                framing = TcpFraming if self.transport == "tcp" else RtuFraming
                where["port"] = await stack.enter_async_context(listening(line, self.host, self.port, framing))
            yield Running({"host": self.host, **dict(sorted(where.items(), reverse=True))})
        counted = line.counts.as_json()
        logger.info("%s: %d requests by %d connections", self.name, counted["requests"], counted["connections"])
