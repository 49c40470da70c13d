"""The device's end of a serial line, when its other end goes away."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from simulators.plant.serial_port import SerialPort

if TYPE_CHECKING:
    import pytest


def test_a_tty_that_has_ended_is_read_no_more(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[bytes] = []

    async def serve(reading: int, writing: int) -> bool:
        port = SerialPort(reading)
        port.start(taken.append)
        os.write(writing, b"asked")
        os.close(writing)
        async with asyncio.timeout(5):
            while port.is_open:  # noqa: ASYNC110 - a port is asked, it tells nobody
                await asyncio.sleep(0)
        return asyncio.get_running_loop().remove_reader(reading)

    reading, writing = os.pipe()
    try:
        assert not asyncio.run(serve(reading, writing)), "nothing is watched any more"
    finally:
        os.close(reading)
    assert taken == [b"asked"]
    assert caplog.text.count("it has ended") == 1
