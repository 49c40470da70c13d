"""What is read before the clock is right: kept undated, dated once it is, and never told wrong."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.datatypes import DataType
from contract.delivery import GAP, Gap
from contract.sparkplug import Metric, Payload, Property, Quality, decode, encode
from edge.batch import Batch, batches_of_poll, gap_batch
from edge.lane import Lane
from edge.reading import Reading
from edge.spool import Spool, SpoolLimits
from edge.spool.buffer import Buffer
from edge.spool.dating import dated, in_utc, is_since_boot

if TYPE_CHECKING:
    from pathlib import Path

BOOTED_MS = 1_710_000_000_000
HOUR_MS = 3_600_000


@dataclass
class Machine:
    """A device: `power_on` begins a boot, and its clock is right from when `booted_ms` is known."""

    directory: Path
    since_boot_ms: int = 20_000
    booted_ms: int | None = None
    boot_id: str = "first"
    limits: SpoolLimits = field(default_factory=lambda: SpoolLimits(1 << 26, 1 << 20, 0.01))

    def now_ms(self) -> int:
        return self.since_boot_ms if self.booted_ms is None else self.booted_ms + self.since_boot_ms

    def power_on(self, boot_id: str) -> None:
        self.boot_id, self.since_boot_ms, self.booted_ms = boot_id, 20_000, None

    def spool(self) -> Spool:
        def declare(device: str, gap: Gap) -> Batch:
            return gap_batch(device, gap, self.now_ms())

        return Spool(self.directory, self.limits, self.now_ms, declare, booted_ms=lambda: self.booted_ms)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    device = Machine(tmp_path)
    monkeypatch.setattr("edge.spool.keeper.boot_id", lambda: device.boot_id)
    return device


def read(machine: Machine, spool: Spool, count: int, lane: Lane = Lane.LIVE, device: str = "plant") -> None:
    """`count` polls, one a second."""
    for _ in range(count):
        machine.since_boot_ms += 1000
        now_ms = machine.now_ms()
        reading = Reading("value", DataType.INT64, machine.since_boot_ms, now_ms)
        for batch in batches_of_poll(device, [reading], now_ms - 5, now_ms + 5, lane):
            spool.put(batch)


async def readings(spool: Spool, lane: Lane = Lane.LIVE) -> list[Metric]:
    batches = await spool.read_from(lane, 1, 1000)
    return [metric for batch in batches for metric in decode(batch.payload).metrics]


async def all_dated(spool: Spool) -> None:
    async with asyncio.timeout(20):
        await spool.flush()
        await asyncio.sleep(0.05)
        while spool.undated_batches:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


def gaps_among(metrics: list[Metric]) -> list[Gap]:
    return [Gap.from_metric(metric) for metric in metrics if metric.name == GAP]


def values_among(metrics: list[Metric]) -> list[tuple[Any, int]]:
    return [(metric.value, metric.timestamp_ms) for metric in metrics if metric.name != GAP]


def test_readings_of_before_the_clock_was_right_get_the_time_they_had(machine: Machine) -> None:
    async def scenario() -> None:
        spool = machine.spool()
        await spool.start()
        read(machine, spool, 100)
        read(machine, spool, 2, Lane.ALARM)
        await spool.flush()
        assert [extent.depth for extent in (await spool.extents()).values()] == [0, 0, 0, 0], (
            "the uplink never sees them"
        )
        assert not spool.buffered
        machine.booted_ms = BOOTED_MS
        read(machine, spool, 10)
        await all_dated(spool)
        for lane, count in ((Lane.LIVE, 110), (Lane.ALARM, 2)):
            found = values_among(await readings(spool, lane))
            assert len(found) == count
            assert all(at_ms == BOOTED_MS + value for value, at_ms in found)
        oldest, *_ = await spool.read_from(Lane.ALARM, 1, 1)
        assert (oldest.kept_ms, oldest.from_ms) == (BOOTED_MS + 122_000, BOOTED_MS + 121_000 - 5)
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_also_after_a_restart_within_the_same_boot(machine: Machine) -> None:
    async def scenario() -> None:
        for _ in range(3):
            spool = machine.spool()
            await spool.start()
            read(machine, spool, 20)
            await spool.close(clean=False)
        machine.booted_ms = BOOTED_MS
        spool = machine.spool()
        await spool.start()
        await asyncio.sleep(0.1)
        await all_dated(spool)
        found = await readings(spool)
        assert [value for value, _ in values_among(found)] == [20_000 + n * 1000 for n in range(1, 61)]
        assert all(at_ms == BOOTED_MS + value for value, at_ms in values_among(found))
        assert not gaps_among(found)
        assert {metric.quality for metric in found} == {Quality.GOOD}
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_what_an_earlier_boot_left_undated_is_estimated_stale_and_its_span_declared(machine: Machine) -> None:
    async def scenario() -> None:
        machine.booted_ms = BOOTED_MS
        spool = machine.spool()
        await spool.start()
        read(machine, spool, 5)
        await spool.close(clean=False)
        known_ms = machine.now_ms()
        for boot in ("second", "third"):
            machine.power_on(boot)
            spool = machine.spool()
            await spool.start()
            read(machine, spool, 30)
            await spool.close(clean=False)
        machine.power_on("fourth")
        spool = machine.spool()
        await spool.start()
        read(machine, spool, 3)
        machine.booted_ms = BOOTED_MS + 24 * HOUR_MS
        await all_dated(spool)
        found = await readings(spool)
        exact = [metric for metric in found if metric.name != GAP and metric.quality == Quality.GOOD]
        stale = [metric for metric in found if metric.name != GAP and metric.quality == Quality.STALE]
        assert [metric.timestamp_ms - machine.booted_ms for metric in exact[5:]] == [21_000, 22_000, 23_000]
        times = [metric.timestamp_ms for metric in stale]
        assert len(times) == 60
        # As if each boot had ended when the next began.
        assert times[-1] == machine.booted_ms
        assert [b - a for a, b in itertools.pairwise(times)] == [1000] * 29 + [21_000] + [1000] * 29
        gaps = gaps_among(found)
        assert {gap.reason for gap in gaps} == {"clock not set: times are estimates"}
        assert {(gap.from_ms, gap.to_ms) for gap in gaps} == {(known_ms, machine.booted_ms)}
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_a_spool_that_was_made_without_a_clock_gets_its_epoch_with_it(machine: Machine) -> None:
    async def scenario() -> None:
        spool = machine.spool()
        assert (await spool.start()).epoch == 20_000
        read(machine, spool, 3)
        await spool.flush()
        machine.booted_ms = BOOTED_MS
        read(machine, spool, 1)
        await all_dated(spool)
        assert (await spool.extents())[Lane.LIVE].epoch == machine.now_ms()
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_a_full_spool_gives_up_the_oldest_undated_and_declares_them_in_utc(machine: Machine) -> None:
    async def scenario() -> None:
        machine.limits = replace(machine.limits, max_bytes=1 << 18)
        spool = machine.spool()
        await spool.start()
        for n in range(40):
            at_ms = machine.since_boot_ms = 30_000 + n * 1000
            text = Metric("text", DataType.STRING, "x" * 10_000, at_ms)
            spool.put(Batch("plant", encode(Payload(at_ms, (text,))), at_ms, at_ms))
            await spool.flush()
        assert spool.evicted_batches > 10
        machine.booted_ms = BOOTED_MS
        await all_dated(spool)
        found = await readings(spool)
        kept = [at_ms for _, at_ms in values_among(found)]
        assert kept == [BOOTED_MS + 30_000 + n * 1000 for n in range(40 - len(kept), 40)]
        for n in range(40 - len(kept)):
            lost_ms = BOOTED_MS + 30_000 + n * 1000
            assert any(gap.from_ms <= lost_ms <= gap.to_ms for gap in gaps_among(found))
        assert max(gap.to_ms for gap in gaps_among(found)) < kept[0]
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_what_is_lost_of_an_earlier_boot_is_declared_as_all_the_time_that_it_may_have_been(machine: Machine) -> None:
    async def scenario() -> None:
        machine.limits = replace(machine.limits, max_bytes=1 << 18)
        for boot in ("second", "third"):
            machine.power_on(boot)
            spool = machine.spool()
            await spool.start()
            for _ in range(16):
                at_ms = machine.since_boot_ms = machine.since_boot_ms + 1000
                text = Metric("text", DataType.STRING, "x" * 10_000, at_ms)
                spool.put(Batch("plant", encode(Payload(at_ms, (text,))), at_ms, at_ms))
                await spool.flush()
            if boot == "second":
                await spool.close(clean=False)
        assert spool.evicted_batches > 5
        machine.booted_ms = BOOTED_MS
        await all_dated(spool)
        found = await readings(spool)
        (full, *_) = [gap for gap in gaps_among(found) if gap.reason == "spool full"]
        assert full.to_ms == BOOTED_MS + 1, "before this boot, nobody knows when"
        await spool.close(clean=True)

    asyncio.run(scenario())


def test_a_poll_during_which_the_clock_was_set_is_dated_in_part() -> None:
    before = Reading("a", DataType.INT64, 1, 50_000)
    after = Reading("b", DataType.INT64, 2, BOOTED_MS + 50_500)
    quote = Reading("c", DataType.INT64, 3, BOOTED_MS - HOUR_MS)
    unknown = Reading("d", DataType.INT64, 4, 0)
    (batch,) = batches_of_poll("plant", [before, after, quote, unknown], 49_000, BOOTED_MS + 50_600)
    result = in_utc(replace(batch, from_ms=49_000), BOOTED_MS)
    assert [metric.timestamp_ms for metric in decode(result.payload).metrics] == [
        BOOTED_MS + 50_000,
        BOOTED_MS + 50_500,
        BOOTED_MS - HOUR_MS,
        0,
    ], "what had a time of its own keeps it"
    assert (result.from_ms, result.to_ms) == (BOOTED_MS + 49_000, BOOTED_MS + 50_500)


def test_times_in_properties_are_dated_too_and_values_are_not() -> None:
    properties = {
        "started": Property(DataType.DATETIME, 5000),
        "count": Property(DataType.INT64, 5000),
        "none": Property(DataType.DATETIME, None),
    }
    metric = Metric("clock of the device", DataType.DATETIME, 5000, 6000, quality=Quality.BAD, properties=properties)
    batch = Batch("plant", encode(Payload(6000, (metric,))), 6000, 6000)
    (result,) = decode(dated(batch, BOOTED_MS, estimated=True).payload).metrics
    assert (result.value, result.timestamp_ms, result.quality) == (5000, BOOTED_MS + 6000, Quality.BAD)
    assert {name: prop.value for name, prop in result.properties.items()} == {
        "started": BOOTED_MS + 5000,
        "count": 5000,
        "none": None,
    }


def test_a_payload_that_cannot_be_read_is_kept_as_it_is() -> None:
    batch = dated(Batch("plant", b"\x0a\xffgarbled", 5, 6), BOOTED_MS)
    assert batch == Batch("plant", b"\x0a\xffgarbled", BOOTED_MS + 5, BOOTED_MS + 6)


times = st.one_of(st.integers(1, 10**11), st.integers(BOOTED_MS - 10**10, BOOTED_MS))


@given(st.lists(times, min_size=1, max_size=6), st.sampled_from([Quality.GOOD, Quality.STALE]))
def test_dating_moves_every_time_since_boot_and_no_other(sampled: list[int], quality: Quality) -> None:
    metrics = tuple(Metric(f"m{n}", DataType.INT64, n, at_ms) for n, at_ms in enumerate(sampled))
    batch = Batch("plant", encode(Payload(max(sampled), metrics)), min(sampled), max(sampled))
    result = dated(batch, BOOTED_MS, estimated=quality is Quality.STALE)
    for before, after in zip(metrics, decode(result.payload).metrics, strict=True):
        moved = is_since_boot(before.timestamp_ms)
        assert after.timestamp_ms - before.timestamp_ms == (BOOTED_MS if moved else 0)
        assert after.quality == (quality if moved else Quality.GOOD)
    assert result.from_ms <= result.to_ms
    assert dated(result, BOOTED_MS) == result, "once and for all"


def test_what_was_dropped_before_and_after_the_clock_was_set_is_one_span() -> None:
    known: list[int | None] = [None]
    buffer = Buffer(10_000, lambda: known[0])
    for at_ms in (30_000, 40_000):
        buffer.put(Batch("plant", bytes(8000), at_ms, at_ms))
    known[0] = BOOTED_MS
    buffer.put(Batch("plant", bytes(8000), BOOTED_MS + 50_000, BOOTED_MS + 50_000))
    assert buffer.take_lost() == [("plant", Gap(BOOTED_MS + 30_000, BOOTED_MS + 40_000, "spool not writable"))]
    assert buffer.dropped_batches == 2
