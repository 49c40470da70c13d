"""A line on which anything may happen to any request, held against what was served: nothing wrong, lost or twice."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from contract.sparkplug import Quality
from edge.errors import SourceError

if TYPE_CHECKING:
    from edge.reading import Reading
    from edge.sources.modbus import ModbusSource

_UNITS: Final = (1, 2, 3)
_POLLS: Final = 20
_CODES: Final = {"illegal": 2, "too many": 3, "failure": 4, "busy": 6, "gateway": 11}
_MOODS: Final = ("honest", "honest", "mixed", "silent", "drop", "late", *_CODES)
# A status word and its bits stand in one register; a number of two registers stands across a number of one.
_POINTS: Final = [
    *({"name": f"w{a}", "address": a} for a in (0, 1, 2, 5, 9, 30, 31)),
    {"name": "wide", "address": 8, "datatype": "uint32"},
    {"name": "status", "address": 40},
    *({"name": f"status{bit}", "address": 40, "datatype": "bool", "bit": bit} for bit in range(4)),
    *({"name": f"h{a}", "table": "holding", "address": a} for a in (0, 3, 60)),
]


def _register(generation: int, unit: int, function: int, address: int) -> int:
    """What a register holds during a poll: never the same in another, or elsewhere."""
    return (generation * 8191 + unit * 1000 + function * 100 + address) & 0xFFFF


class _Hostile:
    """Three units in changing moods, and what was served of them in a poll."""

    def __init__(self, line: Any, rng: random.Random) -> None:
        self._line, self._rng = line, rng
        self.is_serial = bool(line.device)
        self.generation = 0
        self.moods = dict.fromkeys(_UNITS, "honest")
        self.bad: dict[int, list[int]] = {unit: [] for unit in _UNITS}
        self.most: dict[int, int] = dict.fromkeys(_UNITS, 125)
        self.served: list[tuple[int, int, range]] = []
        line.answer = self.answer

    def change(self) -> None:
        """Other moods, other bad addresses, other sizes."""
        for unit in _UNITS:
            self.moods[unit] = self._rng.choice(_MOODS)
            self.bad[unit] = self._rng.sample(range(45), self._rng.choice((0, 0, 1, 3)))
            self.most[unit] = self._rng.choice((125, 125, 3, 10))

    def relent(self) -> None:
        """Answer everything from now on."""
        for unit in _UNITS:
            self.moods[unit], self.bad[unit], self.most[unit] = "honest", [], 125

    async def answer(self, unit: int, function: int, address: int, count: int) -> bytes | None:
        """One request."""
        wanted, mood = range(address, address + count), self.moods[unit]
        if mood == "mixed":
            mood = self._rng.choice(_MOODS)
        if any(bad in wanted for bad in self.bad[unit]):
            mood = "illegal"
        if count > self.most[unit]:
            mood = "too many"
        if mood in _CODES:
            return bytes([function | 0x80, _CODES[mood]])
        if mood == "drop" and self._line.writers:
            self._line.writers[-1].transport.abort()
        if mood in {"drop", "silent"}:
            return None
        if mood == "late":
            await asyncio.sleep(self._rng.choice((0.002, 0.01, 0.05)))
        else:
            self.served.append((unit, function, wanted))
        body = b"".join(struct.pack(">H", _register(self.generation, unit, function, a)) for a in wanted)
        return bytes([function, len(body)]) + body

    def times_served(self, unit: int, point: dict[str, Any]) -> int:
        """How many answers of this poll held a point."""
        size = 2 if point.get("datatype") == "uint32" else 1
        mine = (unit, 3 if point.get("table") == "holding" else 4)
        place = range(point["address"], point["address"] + size)
        return sum((u, f) == mine and place[0] in wanted and place[-1] in wanted for u, f, wanted in self.served)

    def expected(self, unit: int, point: dict[str, Any]) -> int | bool:
        """The value of a point in this poll."""
        function, address = 3 if point.get("table") == "holding" else 4, point["address"]
        low = _register(self.generation, unit, function, address)
        if point.get("datatype") == "bool":
            return bool(low >> point["bit"] & 1)
        if point.get("datatype") == "uint32":
            return low << 16 | _register(self.generation, unit, function, address + 1)
        return low


def _check(hostile: _Hostile, readings: list[Reading]) -> None:
    points = {f"u{unit}/{point['name']}": (unit, point) for unit in _UNITS for point in _POINTS}
    assert Counter(reading.metric for reading in readings) == dict.fromkeys(points, 1)
    for reading in readings:
        unit, point = points[reading.metric]
        times = hostile.times_served(unit, point)
        if reading.quality == Quality.GOOD:
            assert reading.value == hostile.expected(unit, point)
        else:
            assert reading.value is None
        if point["name"] not in {"wide", "w9"}:  # whoever asks for one reads of the other
            # On a serial line one that is late holds up the next, which then is served in vain.
            assert times <= (reading.quality == Quality.GOOD or hostile.is_serial), reading


async def _poll(source: ModbusSource, hostile: _Hostile) -> bool:
    """Whether everything was read."""
    hostile.generation += 1
    hostile.served.clear()
    try:
        readings = await source.poll()
    except SourceError:
        assert not hostile.served
        return False
    _check(hostile, readings)
    return all(reading.quality == Quality.GOOD for reading in readings)


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp", "serial"])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_each_poll_has_each_point_once_and_right_and_all_heals(
    kit: Any, transport: str, seed: int
) -> None:
    rng = random.Random(f"{transport} {seed}")
    busy_retry_s = 0.01 if seed % 2 else None

    async def test(line: Any) -> None:
        hostile = _Hostile(line, rng)
        units = kit.units(**{f"u{u}": [p | {"name": f"u{u}/{p['name']}"} for p in _POINTS] for u in _UNITS})
        times = {"interval_s": 0.1, "request_timeout_s": 0.03, "late_answer_s": 0.06, "timeout_s": 1, "recheck_s": 0.1}
        config = kit.config(line, units, busy_retry_s=busy_retry_s, transport=transport, response_s=0.001, **times)
        async with config.open(kit.now) as source:
            for number in range(_POLLS):
                if number % 4 == 0:
                    hostile.change()
                await _poll(source, hostile)
            hostile.relent()
            deadline = time.monotonic() + 10
            while not await _poll(source, hostile):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    if transport == "serial":
        kit.on_serial_line(test)
    else:
        kit.on_line(test, rtu=transport == "rtu_over_tcp")
