"""Live first: what is urgent overtakes, an outage is replayed beside it, images come last."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from contract.topics import MessageType
from edge.lane import Lane

# A value tells which reading arrived: live ones are put from here on, the backlog from 0.
LIVE_FROM = 1_000_000


def values(bridge: Any) -> list[float]:
    return [message.payload.metrics[0].value for message in bridge.batches()]


def epochs(bridge: Any) -> list[int]:
    return [message.stamp.batch.epoch for message in bridge.batches()]


def test_each_lane_is_a_sequence_of_its_own_and_the_more_urgent_goes_first(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        rig = site.rig()
        await rig.spool.start()
        for lane in (Lane.IMAGE, Lane.LIVE, Lane.ALARM):
            rig.put(5, lane, first=lane * 100)
        rig.put_backlog(5)
        await rig.spool.flush()
        async with site.at_work(rig):
            await rig.delivered()

    asyncio.run(scenario())
    expected = [lane * 100 + n for lane in (Lane.ALARM, Lane.LIVE) for n in range(5)]
    assert values(bridge) == [*expected, *range(5), *(Lane.IMAGE * 100 + n for n in range(5))]
    assert bridge.batch_numbers() == [1, 2, 3, 4, 5] * 4
    assert len(set(epochs(bridge))) == 4


def test_what_is_replayed_is_historical_and_what_is_live_is_not(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            rig.put_backlog(2)
            rig.put(2, first=LIVE_FROM)
            rig.put(2, Lane.ALARM, first=LIVE_FROM)
            await rig.delivered()

    asyncio.run(scenario())
    metrics = [message.payload.metrics[0] for message in bridge.batches()]
    assert {(metric.value < LIVE_FROM, metric.is_historical) for metric in metrics} == {(True, True), (False, False)}


def arrived_s(bridge: Any) -> dict[float, float]:
    """When each reading came first, by the monotonic clock."""
    return {message.payload.metrics[0].value: message.at_s for message in reversed(bridge.batches())}


async def put_live(rig: Any, count: int) -> dict[float, float]:
    """Live readings one by one, 20 a second; when each was put."""
    put: dict[float, float] = {}
    for n in range(count):
        put[LIVE_FROM + n] = time.monotonic()
        rig.put(1, first=LIVE_FROM + n)
        await asyncio.sleep(0.05)
    return put


def test_after_an_outage_a_live_reading_is_as_quick_as_ever(site: Any) -> None:
    """A day of an agent that keeps a batch every 4 s."""
    backlog = 21_600
    bridge = site.bridge()

    async def scenario() -> tuple[int, dict[float, float]]:
        rig = site.rig(backfill_batches_per_s=400, backfill_bytes_per_s=1 << 20)
        await rig.spool.start()
        rig.put_backlog(backlog)
        await rig.spool.flush()
        async with site.at_work(rig):
            await site.eventually(lambda: rig.uplink.status.connected and bridge.batches(), "the connection")
            put = await put_live(rig, 60)
            await site.eventually(lambda: put.keys() <= arrived_s(bridge).keys(), "all that is live")
            return await rig.depth(Lane.BACKFILL), put

    left, put = asyncio.run(scenario())
    arrived = arrived_s(bridge)
    # The commit interval is 10 ms here; what is beyond it is the machine's own.
    waits_s = sorted(arrived[value] - put_s for value, put_s in put.items())
    assert waits_s[len(waits_s) // 2] < 0.1
    assert waits_s[-1] < 1.0
    replayed = sum(value < LIVE_FROM for value in arrived)
    assert backlog - left <= replayed < backlog - 10_000, "most of the outage is still to be told"
    assert replayed > 60, "and it goes on beside what is live"


def test_replay_keeps_to_its_rate(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        rig = site.rig(backfill_batches_per_s=20)
        await rig.spool.start()
        rig.put_backlog(1000)
        await rig.spool.flush()
        async with site.at_work(rig):
            await site.eventually(lambda: len(bridge.batches()) >= 20, "a second's worth")
            since_s, before = time.monotonic(), len(bridge.batches())
            await site.eventually(lambda: len(bridge.batches()) >= before + 20, "another")
            assert time.monotonic() - since_s > 0.8

    asyncio.run(scenario())


def test_a_stop_is_not_held_up_by_any_rate(site: Any) -> None:
    site.bridge()

    async def scenario() -> None:
        rig = site.rig(backfill_batches_per_s=1, image_bytes_per_s=1)
        await rig.spool.start()
        rig.put_backlog(100)
        rig.put(100, Lane.IMAGE)
        await rig.spool.flush()
        rig.uplink.drain()
        async with asyncio.timeout(10):
            await rig.uplink.run()
        assert await rig.depth() == 0
        await rig.spool.close(clean=True)

    asyncio.run(scenario())


def test_what_is_read_in_an_outage_is_for_replay_and_what_is_read_after_it_is_live(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running(resend_after_s=0.2, backfill_batches_per_s=10) as rig:
            rig.put(1)
            await rig.delivered()
            assert not rig.uplink.status.away
            await asyncio.to_thread(site.broker.stop)
            await site.eventually(lambda: rig.uplink.status.away, "the outage is known")
            rig.put(50, first=10)
            assert await rig.depth(Lane.BACKFILL) == 50
            await asyncio.to_thread(site.broker.start)
            await site.eventually(lambda: not rig.uplink.status.away, "its end is known")
            rig.put(1, first=LIVE_FROM)
            await site.eventually(lambda: LIVE_FROM in values(bridge), "the live reading")
            assert await rig.depth(Lane.BACKFILL) > 0

    asyncio.run(scenario())


def test_a_short_break_diverts_nothing(site: Any) -> None:
    site.bridge()

    async def scenario() -> None:
        async with site.running(resend_after_s=20) as rig:
            rig.put(1)
            await rig.delivered()
            await asyncio.to_thread(site.broker.stop)
            await site.eventually(lambda: not rig.uplink.status.connected, "the connection is lost")
            rig.put(5)
            assert (await rig.depth(Lane.BACKFILL), await rig.depth(Lane.LIVE)) == (0, 5)
            await asyncio.to_thread(site.broker.start)
            await rig.delivered()

    asyncio.run(scenario())


@pytest.mark.parametrize("there_is_a_bridge", [True, False])
def test_without_a_bridge_that_answers_what_is_read_is_for_replay(site: Any, *, there_is_a_bridge: bool) -> None:
    bridge = site.bridge(answers=False) if there_is_a_bridge else None

    async def scenario() -> None:
        async with site.running(resend_after_s=0.2) as rig:
            rig.put(3)
            await site.eventually(lambda: rig.uplink.status.away, "the outage is known")
            rig.put(20, first=10)
            assert await rig.depth(Lane.BACKFILL) == 20
            if bridge is None:
                await asyncio.to_thread(site.bridge)
            else:
                bridge.answers = True
            await rig.delivered()
            assert not rig.uplink.status.away

    asyncio.run(scenario())


def test_images_go_one_at_a_time(site: Any) -> None:
    bridge = site.bridge()
    on_line: list[int] = []

    async def scenario() -> None:
        async with site.running(image_bytes_per_s=1e9) as rig:
            rig.put(50, Lane.IMAGE)
            while await rig.depth():
                on_line.append(rig.uplink._delivery._images_on_line)

    asyncio.run(scenario())
    assert max(on_line) == 1
    assert len(bridge.of_type(MessageType.DDATA)) == 50
