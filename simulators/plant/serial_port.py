"""The device's end of a serial line: a tty that is given, or one end of a pair of pseudo terminals made for it."""

from __future__ import annotations

import asyncio
import logging
import os
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from simulators.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

_READ_SIZE: Final = 4096
_CONTROL_FLAGS: Final = 2
_INPUT_SPEED, _OUTPUT_SPEED = 4, 5


class SerialPort:
    """Bytes in by `on_data`, out by `send`; nobody knows whether there is someone at the other end."""

    is_open = True
    connects = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._on_data: Callable[[bytes], None] = lambda _: None

    def start(self, on_data: Callable[[bytes], None]) -> None:
        """Hand over what comes from now on."""
        self._on_data = on_data
        os.set_blocking(self._descriptor, False)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def stop(self) -> None:
        """Hand over nothing more."""
        self.is_open = False
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def send(self, data: bytes) -> None:
        """Send; what does not fit is lost, as on a line to which nobody listens."""
        try:
            os.write(self._descriptor, data)
        except BlockingIOError:
            logger.debug("nobody reads: %d bytes are lost", len(data))
        except OSError as exc:
            logger.warning("serial line: %s", exc)

    def hang_up(self) -> None:
        """Nothing: a serial line has no connection to end."""

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError as exc:
            logger.warning("serial line: %s", exc)
            data = b""
        if not data:
            # A tty that was unplugged, or whose other end is gone: it would be readable for ever.
            logger.warning("serial line: it has ended")
            self.stop()
            return
        self._on_data(data)


@contextmanager
def serial_port(device: Path | None, link: Path | None, baud: int | None) -> Iterator[tuple[SerialPort, str]]:
    """The port, and the path that a client opens: `device` itself, or that of a pair, behind `link` where wanted."""
    if device is not None:
        descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            _make_raw(descriptor, baud)
            yield SerialPort(descriptor), str(device)
        finally:
            os.close(descriptor)
        return
    descriptor, client_end = os.openpty()
    try:
        # The client's end is held open, too: the pair must outlive the clients.
        _make_raw(client_end, None)
        os.set_blocking(descriptor, False)
        with _linked(os.ttyname(client_end), link) as path:
            yield SerialPort(descriptor), path
    finally:
        os.close(descriptor)
        os.close(client_end)


def _make_raw(descriptor: int, baud: int | None) -> None:
    try:
        tty.setraw(descriptor)
        if baud is not None:
            settings = termios.tcgetattr(descriptor)
            speed = getattr(termios, f"B{baud}", None)
            if speed is None:
                raise SimulatorError(f"baud: found {baud}, which no tty has")
            settings[_CONTROL_FLAGS] |= termios.CLOCAL | termios.CREAD
            settings[_INPUT_SPEED] = settings[_OUTPUT_SPEED] = speed
            termios.tcsetattr(descriptor, termios.TCSANOW, settings)
    except termios.error as exc:
        raise SimulatorError(f"is no serial port: {exc}") from exc


@contextmanager
def _linked(path: str, link: Path | None) -> Iterator[str]:
    """A symbolic link to the path for as long as it holds, in place of one that was left behind."""
    if link is None:
        yield path
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(path)
    try:
        yield str(link)
    finally:
        link.unlink(missing_ok=True)
