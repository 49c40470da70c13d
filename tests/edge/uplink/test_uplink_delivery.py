"""What is delivered, in which order, and when it is forgotten: a real broker, and a bridge that does as it is told."""

from __future__ import annotations

import asyncio
from typing import Any

from contract.commands import NODE_COMMANDS
from contract.datatypes import DataType
from contract.delivery import DurableMark
from contract.sparkplug import Metric, Payload, encode
from contract.topics import MessageType
from edge.batch import Batch

LARGE = Metric("note", DataType.STRING, "x" * 100_000, 5)


def test_births_come_first_and_batches_in_order_and_are_forgotten_when_durable(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            rig.put(300)
            await rig.delivered()

    asyncio.run(scenario())
    site.wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    kinds = [message.topic.message_type for message in bridge.received]
    assert kinds[:3] == [MessageType.NBIRTH, MessageType.DBIRTH, MessageType.DDATA]
    assert kinds[-1] is MessageType.NDEATH
    assert [m.payload.seq for m in bridge.received[:-1]] == [n % 256 for n in range(302)]
    assert bridge.batch_numbers() == list(range(1, 301))
    births = {m.name: m for message in bridge.received[:2] for m in message.payload.metrics}
    assert births["level"].unit == "m"
    assert {name for name in births if name.startswith("Node Control/")} == set(NODE_COMMANDS)
    assert births["bdSeq"].value == bridge.received[-1].payload.metrics[0].value == 0


def test_nothing_is_deleted_before_the_mark_and_the_window_bounds_what_is_out(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(window=10, resend_after_s=60, resend_max_s=60) as rig:
            rig.put(50)
            await site.eventually(lambda: len(bridge.batches()) >= 10, "a window full")
            # The next 40 would come within milliseconds if the window did not hold them back.
            await asyncio.sleep(0.3)
            assert bridge.batch_numbers() == list(range(1, 11))
            assert await rig.depth() == 50
            epoch = bridge.batches()[0].stamp.batch.epoch
            bridge.command(site.node, DurableMark(epoch + 100, 10).to_payload(1))  # of another spool
            bridge.command(site.node, DurableMark(epoch, 4).to_payload(1))
            await site.eventually(lambda: len(bridge.batches()) >= 14, "four more")
            assert await rig.depth() == 46
            assert bridge.batches()[-1].stamp.oldest == 5

    asyncio.run(scenario())


def test_without_a_mark_all_is_sent_again_one_batch_first(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(resend_after_s=0.2) as rig:
            rig.put(3)
            await site.eventually(lambda: len(bridge.batches()) >= 5, "sent again")
            bridge.answers = True
            await rig.delivered()

    asyncio.run(scenario())
    assert bridge.batch_numbers()[:5] == [1, 2, 3, 1, 1]


def test_a_mark_that_was_lost_is_answered_when_one_batch_is_sent_again(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(resend_after_s=0.3) as rig:
            rig.put(20)
            await site.eventually(lambda: len(bridge.batches()) >= 20, "all out")
            bridge.answers = True
            await rig.delivered()

    asyncio.run(scenario())
    assert bridge.batch_numbers() == [*range(1, 21), 1]


def test_a_long_outage_of_the_bridge_does_not_flood_the_broker(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(window=10, resend_after_s=0.1, resend_max_s=60) as rig:
            rig.put(100)
            await site.eventually(lambda: len(bridge.batches()) >= 13, "sent again")
            await asyncio.sleep(0.5)
            # A window, and then, 0.1, 0.2, 0.4, 0.8 s apart, one batch at a time, however much is spooled.
            assert len(bridge.batches()) <= 15
            assert await rig.depth() == 100

    asyncio.run(scenario())


def test_old_batches_are_marked_historical(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(historical_after_s=1, resend_after_s=1.5) as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            rig.put(1)
            await site.eventually(lambda: len(bridge.batches()) >= 2, "sent again")

    asyncio.run(scenario())
    first, again = bridge.batches()[:2]
    assert [m.payload.metrics[0].is_historical for m in (first, again)] == [False, True]
    assert first.payload.metrics[0].value == again.payload.metrics[0].value


def test_a_batch_that_the_disk_has_garbled_does_not_block_the_others(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running(historical_after_s=0.001) as rig:
            rig.put(1)
            rig.spool.put(Batch("plant", b"\x0a\xffgarbled", 1, 1))
            rig.put(1)
            await rig.delivered()

    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1, 2, 3]


def test_a_stop_delivers_what_is_left_then_says_goodbye(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        rig = site.rig()
        await rig.spool.start()
        rig.put(100)
        await rig.spool.flush()
        rig.uplink.drain()
        async with asyncio.timeout(20):
            await rig.uplink.run()
        assert await rig.depth() == 0
        await rig.spool.close(clean=True)

    asyncio.run(scenario())
    site.wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    assert bridge.batch_numbers() == list(range(1, 101))
    assert bridge.received[-1].topic.message_type is MessageType.NDEATH


def test_a_stop_whose_last_batches_the_disk_does_not_take_makes_no_connection_after_another(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        rig = site.rig()
        await rig.spool.start()
        await rig.spool._call(lambda file: file._database.sql.execute("pragma max_page_count = 1").fetchall())
        rig.spool.put(Batch("plant", encode(Payload(5, (LARGE,))), 5, 6))
        await rig.spool.flush()
        assert rig.spool.buffered == 1
        rig.uplink.drain()
        task = asyncio.create_task(rig.uplink.run())
        await site.eventually(lambda: rig.uplink.status.connected, "the connection")
        # As long as the disk takes nothing there is nothing to deliver; then there is.
        await asyncio.sleep(0.5)
        await rig.spool._call(lambda file: file._database.sql.execute("pragma max_page_count = 10000").fetchall())
        async with asyncio.timeout(20):
            await task
        await rig.spool.close(clean=True)

    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1]
    assert len(bridge.of_type(MessageType.NBIRTH)) == 1
