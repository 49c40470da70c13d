"""The servers of a line: Modbus TCP, RTU over TCP, or RTU on a serial port.

Framing and PDUs are our own: pymodbus's server keeps one request per connection in a variable that the next one
overwrites, does not say whether an answer found its client still there, which the ledger has to know, and
cannot be made to answer wrongly, which a master has to be tried with.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

from simulators.plant.framing import RtuFraming
from simulators.plant.serial_port import serial_port
from simulators.plant.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from simulators.plant.answering import Line
    from simulators.plant.framing import Framing

logger = logging.getLogger(__name__)

_MOST_UNREAD_BYTES: Final = 65_536


class Connection(asyncio.Protocol):
    """One client of a TCP server."""

    connects = True

    def __init__(self, line: Line, framing: Framing, open_: set[Connection], number: int) -> None:
        self._line, self._framing, self._open, self._number = line, framing, open_, number
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer from now on, unless the line has clients enough."""
        self._transport = cast("asyncio.Transport", transport)
        most = self._line.limits.max_clients
        if most is not None and len(self._open) >= most:
            logger.debug("client refused: there are %d", most)
            self.hang_up()
            return
        self._open.add(self)
        client = f"{self._number} {_peer(transport)}"
        self._line.counts.connected(client)
        self._session = Session(self._line, self._framing, self, client)

    def connection_lost(self, exc: Exception | None) -> None:
        """Answer no more."""
        logger.debug("client gone: %s", exc or "closed")
        self._transport = None
        self._open.discard(self)
        if self._session is not None:
            self._session.end()

    def eof_received(self) -> bool:
        """A client that sends no more has gone away: nothing more is served to it."""
        return False

    def data_received(self, data: bytes) -> None:
        """Answer what is whole, keep the rest for later."""
        if self._session is not None:
            self._session.receive(data)

    @property
    def is_open(self) -> bool:
        """Whether the client is still there."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes) -> None:
        """Send, without waiting; a client that does not read is cut off."""
        if self._transport is None:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
            logger.warning("client cut off: it does not read what it asks for")
            self.hang_up()

    def hang_up(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def listening(line: Line, host: str, port: int, framing: Callable[[], Framing]) -> AsyncGenerator[int]:
    """The port of a TCP server of a line, while it listens."""
    connections, numbers = set[Connection](), itertools.count(1)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(line, framing(), connections, next(numbers)), host, port
    )
    try:
        found: int = server.sockets[0].getsockname()[1]
        yield found
    finally:
        server.close()
        for connection in tuple(connections):
            connection.hang_up()


@asynccontextmanager
async def on_serial_port(line: Line, device: Path | None, link: Path | None, baud: int | None) -> AsyncGenerator[str]:
    """The path that a client of a serial line opens, while the line is served."""
    with serial_port(device, link, baud if device is not None else None) as (port, path):
        line.counts.connected(path)
        # A real port takes its time by itself.
        session = Session(line, RtuFraming(), port, path, baud if device is None else None)
        port.start(session.receive)
        try:
            yield path
        finally:
            session.end()
            port.stop()


def _peer(transport: asyncio.BaseTransport) -> str:
    address = transport.get_extra_info("peername")
    return ":".join(map(str, address[:2])) if address else "unknown"
