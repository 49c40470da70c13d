"""A plant on which everything goes wrong that can: every readable value arrives all the same, and never a wrong one.

Each value says where and when it was read, or is drawn from both, so that a wrong, stale or misplaced one is seen.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import parse_config
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources.modbus import ModbusConfig
from simulators.ledger import Ledger
from simulators.plant import BusConfig
from simulators.plant.faults import Fault
from simulators.plant.stamps import stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge.reading import Reading
    from edge.sources.modbus import ModbusSource
    from simulators.plant.bus import Bus
    from simulators.plant.points import PlantPoint

UNITS = (1, 2, 3, 17, 200)
DEAD, FORBIDDEN = 3, 2
# 200 points each. Blocks of one shape stand behind each other: on RTU nothing else tells their answers apart.
POINTS = [
    *({"table": "input", "address": at, "count": 15, "datatype": "uint64"} for at in (0, 100, 200, 300)),
    *({"table": "holding", "address": at, "count": 30, "datatype": "uint16"} for at in (10, 60)),
    {"table": "holding", "address": 100, "count": 20, "datatype": "int32", "word_order": "little"},
    {"table": "holding", "address": 1000, "count": 10, "datatype": "float64", "byte_order": "little"},
    {"table": "holding", "address": 1044, "count": 10, "datatype": "float32"},
    *({"table": "coil", "address": at, "count": 20, "datatype": "bool"} for at in (0, 50)),
]
# Kind of fault -> the share of the requests that meet it, and its settings.
FAULTS: dict[str, dict[str, Any]] = {
    "silent": {"share": 0.005},
    "half_open": {"share": 0.005},
    "comms_error": {"share": 0.01},
    "busy": {"share": 0.01},
    "slow_reply": {"share": 0.01, "delay_s": 0.02},
    "late": {"share": 0.02, "delay_s": 0.1},
    "duplicate": {"share": 0.02},
    "truncated": {"share": 0.005},
    "short_answer": {"share": 0.01},
    "wrong_unit": {"share": 0.01},
    "wrong_transaction": {"share": 0.02},
    "wrong_function": {"share": 0.01},
    "corrupt": {"share": 0.01},
    "dribble": {"share": 0.01, "pause_s": 0.0002},
    "garbage": {"share": 0.01},
}
INTERVAL_S = 1.2
MOST_POLLS = 10  # in a row without a value of a point
TRANSPORTS = ("tcp", "rtu_over_tcp", "serial")


@dataclass
class Chaos:
    """A source, the bus behind it, and what came of its polls."""

    bus: Bus
    source: ModbusSource
    where: dict[str, tuple[int, PlantPoint]]
    missing: Counter[str] = field(default_factory=Counter)  # polls in a row without a good reading
    seen_s: dict[str, float] = field(default_factory=dict)  # loop time of the last good one
    good: int = 0
    failed_polls: int = 0

    async def poll(self) -> set[str]:
        """One poll: checks every value, and returns the points that have none."""
        since = self.bus.step
        try:
            readings = await self.source.poll()
        except SourceError:
            self.failed_polls += 1
            readings = []
        good = [reading for reading in readings if reading.quality is Quality.GOOD]
        for reading in good:
            self._check(reading, since)
        names = {reading.metric for reading in good}
        assert len(names) == len(good), "a point was told twice"
        assert not readings or {reading.metric for reading in readings} == self.where.keys()
        assert all(reading.value is None for reading in readings if reading.quality is not Quality.GOOD)
        self.good += len(good)
        self.seen_s |= dict.fromkeys(names, asyncio.get_running_loop().time())
        lacking = self.where.keys() - names
        self.missing = Counter({name: self.missing[name] + 1 for name in lacking})
        return lacking

    def _check(self, reading: Reading, since: int) -> None:
        unit_id, point = self.where[reading.metric]
        allowed = {
            stamp(point.kind, unit_id, point.table, point.address, step) for step in range(since, self.bus.step + 1)
        }
        assert reading.value in allowed, f"{reading.metric} is {reading.value}: {_origin(reading.value)}"

    def assert_nothing_is_missing_for_long(self) -> None:
        """Many polls without a value may be a short time, for here they follow one another at once."""
        now_s = asyncio.get_running_loop().time()
        lost = [name for name, polls in self.missing.items() if polls > MOST_POLLS]
        assert not [name for name in lost if now_s - self.seen_s[name] > MOST_POLLS / 2 * INTERVAL_S], lost[:5]

    async def until_all_are_good(self, within_s: float) -> None:
        """Polls until every point has a value."""
        deadline = asyncio.get_running_loop().time() + within_s
        while lacking := await self.poll():
            assert asyncio.get_running_loop().time() < deadline, f"still missing: {sorted(lacking)[:5]}, {len(lacking)}"
            await asyncio.sleep(0.02)


def _origin(value: Any) -> str:
    from simulators.plant.stamps import describe  # noqa: PLC0415 - only when a test fails

    return f"if it is a whole stamp it comes from {describe(value)}"


@asynccontextmanager
async def chaos(transport: str, folder: Path, seed: int, **keys: Any) -> AsyncIterator[Chaos]:
    """A bus of a thousand points, and a source that knows where all of them are."""
    document = {
        "name": "bus",
        "seed": seed,
        "unit_ids": UNITS,
        "points": POINTS,
        "step_s": 0.02,
        "transport": transport,
    }
    simulator = parse_config(document | keys, BusConfig, "test")
    bus = simulator._bus()
    with Ledger(folder / f"{transport}.jsonl", {"simulator": "bus", "seed": seed, "match": simulator.match}) as ledger:
        async with simulator.serve(bus, ledger, simulator.step_s) as running:
            found = running.addresses
            line = (
                {"device": found["device"], "baudrate": 115_200}
                if transport == "serial"
                else {"host": found["host"], "port": found["port"]}
            )
            config = ModbusConfig.model_validate(
                {
                    "type": "modbus",
                    "name": "bus",
                    "interval_s": INTERVAL_S,
                    "timeout_s": 4.0,
                    "transport": transport,
                    "request_timeout_s": 0.06,
                    "late_answer_s": 0.1,
                    "recheck_s": 0.2,
                    "response_s": 0.001,
                    "units": [
                        {"unit_id": unit_id, "points": [point.to_config() for point in points]}
                        for unit_id, points in bus.points.items()
                    ],
                    **line,
                }
            )
            where = {point.name: (unit_id, point) for unit_id, points in bus.points.items() for point in points}
            async with config.open(lambda: time.time_ns() // 1_000_000) as source:
                yield Chaos(bus, source, where)


def inject(bus: Bus, kind: str, duration_s: float = 3600, **keys: Any) -> None:
    from pydantic import TypeAdapter  # noqa: PLC0415 - a fault by its name, as a control port takes it

    bus.inject(TypeAdapter[Any](Fault).validate_python({"kind": kind, "duration_s": duration_s, **keys}))


async def begun(bus: Bus) -> None:
    """Waits for the next step: faults act from there."""
    step = bus.step
    async with asyncio.timeout(5):
        while bus.step <= step + 1:  # noqa: ASYNC110 - the bus steps by its own clock
            await asyncio.sleep(0.01)


def points_of(where: dict[str, tuple[int, Any]], unit_id: int) -> set[str]:
    return {name for name, (unit, _) in where.items() if unit == unit_id}


async def against_everything(transport: str, folder: Path, seed: int, polls: int, within_s: float) -> Chaos:
    async with chaos(transport, folder, seed) as it:
        assert len(it.where) == 1000
        await it.until_all_are_good(within_s=2)
        inject(it.bus, "silent", unit_id=DEAD)
        inject(it.bus, "forbidden_address", unit_id=FORBIDDEN, table="input", address=106)
        for kind, keys in FAULTS.items():
            inject(it.bus, kind, **keys)
        await begun(it.bus)
        unreadable = points_of(it.where, DEAD) | {"u2/input/104"}
        longest = 0
        for _ in range(polls):
            await it.poll()
            for name in unreadable:
                it.missing.pop(name, None)
            longest = max(longest, *it.missing.values(), 0)
            it.assert_nothing_is_missing_for_long()
        it.bus._schedule.active = ()
        await it.until_all_are_good(within_s)
        print(f"{transport}: {it.good} values right, longest without {longest}, {it.source.details()}")  # noqa: T201 - a long run's figures
        return it


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_readable_value_arrives_and_no_wrong_one(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.sources.modbus.unit._LONGEST_PAUSE_S", 0.3)
    it = asyncio.run(against_everything(transport, tmp_path, seed=11, polls=8, within_s=8))
    assert it.good > 8 * 500


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_late_answer_is_never_taken_for_that_of_another_block_of_its_shape(transport: str, tmp_path: Path) -> None:
    async def run() -> None:
        blocks = [{"table": "input", "address": at, "count": 5, "datatype": "uint64"} for at in range(0, 1000, 100)]
        async with chaos(transport, tmp_path, 5, unit_ids=[1], points=blocks) as it:
            await it.until_all_are_good(within_s=2)
            inject(it.bus, "late", share=0.2, delay_s=0.07)
            await begun(it.bus)
            for _ in range(6):
                await it.poll()
            it.bus._schedule.active = ()
            await it.until_all_are_good(within_s=3)

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_for_minutes_every_readable_value_arrives_and_no_wrong_one(transport: str, seed: int, tmp_path: Path) -> None:
    it = asyncio.run(against_everything(transport, tmp_path, seed, polls=200, within_s=20))
    assert it.good > 200 * 500
