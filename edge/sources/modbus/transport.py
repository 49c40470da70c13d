"""Ports: the non-blocking sockets and serial devices that Modbus bytes go through.

Everything on a line is tiny and one after another, so a port is no asyncio transport but a file descriptor that the
event loop watches: the same few calls for a socket and for a serial device, and less to pay for each request.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Parity = Literal["none", "even", "odd"]

_MOST_BYTES: Final = 4096  # read at once
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# What this system's serial devices can be set to -> the name that it has for it.
BAUDRATES: Final[dict[int, int]] = {
    int(name[1:]): getattr(termios, name) for name in dir(termios) if name[0] == "B" and name[1:].isdecimal()
}


class Port(Protocol):
    """An open port; reading and writing never block."""

    def fileno(self) -> int:
        """What the event loop watches."""
        ...

    def recv(self, most: int, /) -> bytes:
        """Bytes that came, none when the other side is gone; raises BlockingIOError when there are none yet."""
        ...

    def send(self, data: bytes, /) -> int:
        """How many of the bytes were taken; raises OSError."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


async def open_tcp(host: str, port: int) -> Port:
    """A connected socket; raises OSError."""
    fault: OSError | None = None
    for family, kind, protocol, _, address in await _resolve(host, port):
        try:
            return await _connect(socket.socket(family, kind, protocol), address)
        except OSError as exc:
            fault = fault or exc
    raise fault or OSError("no address")


async def _resolve(host: str, port: int) -> list[tuple[int, int, int, str, object]]:
    # An address needs no look-up, and so no thread that a stopping agent would have to wait for.
    with suppress(socket.gaierror):
        return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)]
    return [*await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def _connect(tcp: socket.socket, address: object) -> Port:
    try:
        tcp.setblocking(False)  # noqa: FBT003 - the socket's own signature
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        await asyncio.get_running_loop().sock_connect(tcp, address)  # type: ignore[arg-type]  # as getaddrinfo gave it
    except BaseException:
        tcp.close()
        raise
    return tcp


class SerialPort:
    """A serial device, raw, 8 data bits, for us alone; raises OSError."""

    def __init__(self, device: str, baudrate: int, parity: Parity, stopbits: int) -> None:
        # Not waiting for a carrier, and not becoming our controlling terminal.
        self._fd = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.ioctl(self._fd, termios.TIOCEXCL)
            self._set_up(BAUDRATES[baudrate], parity, stopbits)
        except BlockingIOError as exc:
            os.close(self._fd)
            raise OSError(f"{device} is in use by another program") from exc
        except (OSError, termios.error) as exc:
            os.close(self._fd)
            raise OSError(f"{device} is no serial device that can be set up so: {exc.args[-1]}") from exc

    def _set_up(self, speed: int, parity: Parity, stopbits: int) -> None:
        control = termios.CREAD | termios.CLOCAL | termios.CS8
        control |= {"none": 0, "even": termios.PARENB, "odd": termios.PARENB | termios.PARODD}[parity]
        control |= termios.CSTOPB if stopbits > 1 else 0
        # A byte with wrong parity is dropped, and the CRC then says that the frame is not whole.
        received = 0 if parity == "none" else termios.INPCK | termios.IGNPAR
        characters = termios.tcgetattr(self._fd)[6]
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, [received, 0, control, 0, speed, speed, characters])
        termios.tcflush(self._fd, termios.TCIOFLUSH)

    def fileno(self) -> int:
        """See Port."""
        return self._fd

    def recv(self, most: int, /) -> bytes:
        """See Port."""
        return os.read(self._fd, most)

    def send(self, data: bytes, /) -> int:
        """See Port."""
        return os.write(self._fd, data)

    def close(self) -> None:
        """See Port."""
        os.close(self._fd)


class Wire:
    """A port that the event loop watches: hands on what comes, and says once that the other side is gone."""

    def __init__(self, port: Port, received: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        self._port = port
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(port.fileno(), self._readable)

    def send(self, data: bytes) -> None:
        """Sends a message; raises OSError when the port does not take it as a whole: nobody reads the other end."""
        if self._port.send(data) != len(data):
            raise OSError("the other side takes no more bytes")

    def drain(self) -> None:
        """Hands on what has come and was not yet looked at."""
        self._readable()

    def close(self) -> None:
        """Closes the port; nothing more is handed on."""
        self._loop.remove_reader(self._port.fileno())
        self._port.close()

    def _readable(self) -> None:
        try:
            data = self._port.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            self._lost(exc.strerror or str(exc))
            return
        if data:
            self._received(data)
        else:
            self._lost("the device closed the connection")
