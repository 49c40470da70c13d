"""As Sparkplug 3.0 has it: for other hosts than ours, and where a primary host is waited for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from contract.commands import ANSWER
from contract.delivery import GAP
from contract.topics import MessageType
from edge.lane import Lane

HOST = "scada"


def tell_state(bridge: Any, *, online: bool, at_ms: int) -> None:
    state = json.dumps({"online": online, "timestamp": at_ms}).encode()
    bridge.publish(f"spBv1.0/STATE/{HOST}", state, qos=1, retain=True)


def kinds(bridge: Any) -> list[str]:
    return [message.topic.message_type.value for message in list(bridge.received)]


def test_data_and_births_go_at_qos_0_without_stamps_and_nobody_needs_to_answer(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(profile="strict") as rig:
            rig.put(300)
            await rig.delivered()

    asyncio.run(scenario())
    site.wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    *before, death = bridge.received
    assert [message.topic.message_type for message in before[:3]] == [
        MessageType.NBIRTH,
        MessageType.DBIRTH,
        MessageType.DDATA,
    ]
    assert {message.qos for message in before} == {0}
    assert death.qos == 1
    assert [message.payload.seq for message in before] == [n % 256 for n in range(302)]
    assert [m.payload.metrics[0].value for m in before[2:]] == list(range(300))
    assert bridge.batches() == []
    assert not any(metric.is_historical for message in before for metric in message.payload.metrics)


def test_every_metric_that_may_come_is_in_the_birth_and_has_a_time(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running(profile="strict"):
            await site.eventually(lambda: bridge.of_type(MessageType.DBIRTH), "the births")

    asyncio.run(scenario())
    for birth in bridge.received[:2]:
        assert {GAP, ANSWER} <= {metric.name for metric in birth.payload.metrics}
        assert all(metric.timestamp_ms > 0 for metric in birth.payload.metrics)
    node = {metric.name: metric.value for metric in bridge.received[0].payload.metrics}
    assert node["Node Control/Rebirth"] is False


def test_each_connection_has_the_next_number_from_birth_to_death_and_a_rebirth_the_same(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running(profile="strict") as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            bridge.ask_rebirth(site.node)
            await site.eventually(lambda: len(bridge.of_type(MessageType.NBIRTH)) == 2, "the rebirth")
        async with site.running(profile="strict") as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the second connection")

    asyncio.run(scenario())
    site.wait_for(lambda: len(bridge.of_type(MessageType.NDEATH)) == 2, "both deaths")
    numbers = {
        kind: [metric.value for m in bridge.of_type(kind) for metric in m.payload.metrics if metric.name == "bdSeq"]
        for kind in (MessageType.NBIRTH, MessageType.NDEATH)
    }
    assert numbers == {MessageType.NBIRTH: [0, 0, 1], MessageType.NDEATH: [0, 1]}


@pytest.mark.parametrize("profile", ["strict", "durable"])
def test_a_primary_host_is_waited_for_and_what_came_before_it_is_historical(site: Any, profile: str) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running(profile=profile, primary_host=HOST, resend_after_s=0.2) as rig:
            await site.eventually(lambda: rig.uplink.status.away, "nothing can be delivered")
            rig.put(3)
            tell_state(bridge, online=False, at_ms=5)
            assert await rig.depth(Lane.BACKFILL) == 3
            assert "is not online" in rig.uplink.status.error
            assert bridge.received == []
            tell_state(bridge, online=True, at_ms=6)
            await rig.delivered()
            await site.eventually(lambda: len(bridge.of_type(MessageType.DDATA)) >= 3, "the data")

    asyncio.run(scenario())
    assert kinds(bridge)[:3] == ["NBIRTH", "DBIRTH", "DDATA"]
    assert all(m.payload.metrics[0].is_historical for m in bridge.of_type(MessageType.DDATA))


def test_a_host_that_goes_ends_the_session_and_is_waited_for_anew(site: Any) -> None:
    bridge = site.bridge()
    tell_state(bridge, online=True, at_ms=10)

    async def scenario() -> None:
        async with site.running(profile="strict", primary_host=HOST, resend_after_s=0.2) as rig:
            rig.put(1)
            await rig.delivered()
            tell_state(bridge, online=False, at_ms=4)  # older than its last word
            rig.put(1, first=1)
            await site.eventually(lambda: len(bridge.received) >= 4, "the second reading")
            assert kinds(bridge) == ["NBIRTH", "DBIRTH", "DDATA", "DDATA"]
            tell_state(bridge, online=False, at_ms=11)
            await site.eventually(lambda: bridge.of_type(MessageType.NDEATH), "the death")
            await site.eventually(lambda: rig.uplink.status.away, "nothing can be delivered")
            rig.put(2, first=2)
            assert await rig.depth() == 2
            tell_state(bridge, online=True, at_ms=12)
            await site.eventually(lambda: len(bridge.of_type(MessageType.DDATA)) >= 4, "what was kept")

    asyncio.run(scenario())
    assert kinds(bridge)[:9] == ["NBIRTH", "DBIRTH", "DDATA", "DDATA", "NDEATH", "NBIRTH", "DBIRTH", "DDATA", "DDATA"]
    data = [m.payload.metrics[0] for m in bridge.of_type(MessageType.DDATA)]
    assert [(metric.value, metric.is_historical) for metric in data] == [(0, False), (1, False), (2, True), (3, True)]


def test_a_state_that_is_none_is_told_once_and_changes_nothing(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    bridge = site.bridge()
    tell_state(bridge, online=True, at_ms=10)

    async def scenario() -> None:
        async with site.running(primary_host=HOST) as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            for nonsense in (b"OFFLINE", b"{}", b'{"online": false}'):
                bridge.publish(f"spBv1.0/STATE/{HOST}", nonsense)
            rig.put(1)
            await rig.delivered()
            assert rig.uplink.status.connections == 1

    asyncio.run(scenario())
    assert caplog.text.count("is not understood") == 1


def test_a_stop_with_nothing_to_deliver_waits_for_no_host(site: Any) -> None:
    async def scenario() -> None:
        rig = site.rig(primary_host=HOST)
        await rig.spool.start()
        task = asyncio.create_task(rig.uplink.run())
        await site.eventually(lambda: rig.uplink.status.error, "the host is waited for")
        rig.uplink.drain()
        async with asyncio.timeout(10):
            await task
        await rig.spool.close(clean=True)

    asyncio.run(scenario())
