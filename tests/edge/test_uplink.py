"""The uplink against a real broker, and a bridge that does as it is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from contract.datatypes import DataType
from contract.delivery import GAP, DurableMark, Gap
from contract.sparkplug import Metric, Payload, encode
from contract.topics import MessageType
from edge.batch import NODE, Batch, batches_of_poll, gap_batch
from edge.clock import AnchoredClock
from edge.config import MqttConfig
from edge.node_metrics import node_metrics
from edge.reading import MetricInfo, Reading
from edge.spool import Spool, SpoolLimits
from edge.uplink import NodeIdentity, Uplink
from stack import Mosquitto
from stack.server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

GROUP = "uplink"
NODE_ID = "edge-1"
LEVEL = MetricInfo("level", DataType.DOUBLE, "m", "water")
LARGE = Metric("note", DataType.STRING, "x" * 4000, 5)


class Rig:
    """A spool and an uplink, without sources: the test puts the readings in."""

    def __init__(self, port: int, directory: Path, **mqtt: Any) -> None:
        given = {"resend_after_s": 0.5, "resend_max_s": 2.0, "window": 32} | mqtt
        self.config = MqttConfig(host="127.0.0.1", port=port, **given)
        self.clock = AnchoredClock()
        loop = asyncio.get_running_loop()
        self.spool = Spool(
            directory / "state",
            SpoolLimits(max_bytes=1 << 26, buffer_bytes=1 << 20, commit_interval_s=0.01),
            self.clock.now_ms,
            lambda device, gap: gap_batch(device, gap, self.clock.now_ms()),
            lambda: loop.call_soon_threadsafe(self.uplink.wake),
        )
        identity = NodeIdentity(GROUP, NODE_ID, {NODE: node_metrics(["plant"]), "plant": [LEVEL]})
        self.uplink = Uplink(self.config, identity, self.spool, self.clock.now_ms)

    def put(self, count: int) -> None:
        now_ms = self.clock.now_ms()
        for n in range(count):
            readings = [Reading("level", DataType.DOUBLE, float(n), now_ms + n)]
            for batch in batches_of_poll("plant", readings, now_ms + n, now_ms + n):
                self.spool.put(batch)

    async def depth(self) -> int:
        await self.spool.flush()
        return sum(extent.depth for extent in (await self.spool.extents()).values())

    async def delivered(self, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.depth():  # noqa: ASYNC110 - only the spool knows
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(port: int, directory: Path, **mqtt: Any) -> AsyncIterator[Rig]:
    """The rig at work; ended without draining."""
    rig = Rig(port, directory, **mqtt)
    await rig.spool.start()
    task = asyncio.create_task(rig.uplink.run())
    try:
        yield rig
        assert not task.done(), "the uplink must not end by itself"
    finally:
        task.cancel()
        await asyncio.wait([task])
        await rig.spool.close(clean=True)


def test_births_come_first_and_batches_in_order_and_are_forgotten_when_durable(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, wait_for: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        async with running(broker.port, tmp_path) as rig:
            rig.put(300)
            await rig.delivered()

    asyncio.run(scenario())
    wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    kinds = [message.topic.message_type for message in bridge.received]
    assert kinds[:3] == [MessageType.NBIRTH, MessageType.DBIRTH, MessageType.DDATA]
    assert kinds[-1] is MessageType.NDEATH
    assert [m.payload.seq for m in bridge.received[:-1]] == [n % 256 for n in range(302)]
    assert bridge.batch_numbers() == list(range(1, 301))
    births = {m.name: m for message in bridge.received[:2] for m in message.payload.metrics}
    assert births["level"].unit == "m"
    assert births["bdSeq"].value == bridge.received[-1].payload.metrics[0].value == 0


def test_nothing_is_deleted_before_the_mark_and_the_window_bounds_what_is_out(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP, answers=False)

    async def scenario() -> None:
        async with running(broker.port, tmp_path, window=10, resend_after_s=60, resend_max_s=60) as rig:
            rig.put(50)
            await eventually(lambda: len(bridge.batches()) >= 10, "a window full")
            # The next 40 would come within milliseconds if the window did not hold them back.
            await asyncio.sleep(0.3)
            assert bridge.batch_numbers() == list(range(1, 11))
            assert await rig.depth() == 50
            epoch = bridge.batches()[0].stamp.batch.epoch
            bridge.command(NODE_ID, DurableMark(epoch + 1, 10).to_payload(1))  # of another spool
            bridge.command(NODE_ID, DurableMark(epoch, 4).to_payload(1))
            await eventually(lambda: len(bridge.batches()) >= 14, "four more")
            assert await rig.depth() == 46
            assert bridge.batches()[-1].stamp.oldest == 5

    asyncio.run(scenario())


def test_without_a_mark_all_is_sent_again_from_the_oldest(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP, answers=False)

    async def scenario() -> None:
        async with running(broker.port, tmp_path, resend_after_s=0.2) as rig:
            rig.put(3)
            await eventually(lambda: len(bridge.batches()) >= 6, "sent again")
            bridge.answers = True
            await rig.delivered()

    asyncio.run(scenario())
    numbers = bridge.batch_numbers()
    assert numbers[:6] == [1, 2, 3, 1, 2, 3]


def test_a_broker_killed_with_its_store_deleted_loses_nothing(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP, answers=False)

    async def scenario() -> None:
        async with running(broker.port, tmp_path, window=64) as rig:
            rig.put(40)
            await eventually(lambda: len(bridge.batches()) >= 40, "all out")
            await asyncio.to_thread(broker.kill)
            shutil.rmtree(broker.data_dir)
            rig.put(40)
            bridge.answers = True
            await asyncio.to_thread(broker.start)
            await rig.delivered()

    asyncio.run(scenario())
    births = bridge.of_type(MessageType.NBIRTH)
    assert len({birth.payload.metrics[0].value for birth in births}) >= 2, "each connection has its own bdSeq"
    assert set(bridge.batch_numbers()) == set(range(1, 81))
    second_birth = bridge.received.index(births[1])
    after = [m.topic.message_type for m in bridge.received[second_birth:]]
    assert after[:3] == [MessageType.NBIRTH, MessageType.DBIRTH, MessageType.DDATA]


def test_a_broker_that_is_absent_at_the_start_is_waited_for(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    broker.stop()

    async def scenario() -> None:
        async with running(broker.port, tmp_path) as rig:
            rig.put(5)
            await eventually(lambda: rig.uplink.status.error, "the failure is known")
            assert await rig.depth() == 5
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(new_bridge, broker.port, GROUP)
            await rig.delivered()
            assert rig.uplink.status.error is None

    asyncio.run(scenario())


def test_births_that_reach_nobody_are_sent_until_a_bridge_is_there(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running(broker.port, tmp_path) as rig:
            rig.put(5)
            await eventually(lambda: "reach nobody" in caplog.text, "it is told")
            assert not rig.uplink.status.connected
            bridge = await asyncio.to_thread(new_bridge, broker.port, GROUP)
            await rig.delivered()
            kinds = [m.topic.message_type for m in bridge.received[:3]]
            assert kinds == [MessageType.NBIRTH, MessageType.DBIRTH, MessageType.DDATA]

    asyncio.run(scenario())
    assert caplog.text.count("reach nobody") == 1


def test_rebirth_sends_all_births_again_with_the_same_number(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        async with running(broker.port, tmp_path) as rig:
            rig.put(3)
            await rig.delivered()
            bridge.ask_rebirth(NODE_ID)
            await eventually(lambda: len(bridge.of_type(MessageType.DBIRTH)) == 2, "the second births")
            rig.put(1)
            await rig.delivered()

    asyncio.run(scenario())
    assert [m.payload.metrics[0].value for m in bridge.of_type(MessageType.NBIRTH)] == [0, 0]
    assert [m.payload.seq for m in bridge.received if m.payload.seq is not None] == [0, 1, 2, 3, 4, 0, 1, 2]


def test_old_batches_are_marked_historical(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP, answers=False)

    async def scenario() -> None:
        async with running(broker.port, tmp_path, historical_after_s=1, resend_after_s=1.5) as rig:
            await eventually(lambda: rig.uplink.status.connected, "the connection")
            rig.put(1)
            await eventually(lambda: len(bridge.batches()) >= 2, "sent again")

    asyncio.run(scenario())
    first, again = bridge.batches()[:2]
    assert [m.payload.metrics[0].is_historical for m in (first, again)] == [False, True]
    assert first.payload.metrics[0].value == again.payload.metrics[0].value


def test_a_mark_beyond_what_the_spool_knows_begins_a_new_epoch(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP, answers=False)

    async def scenario() -> None:
        async with running(broker.port, tmp_path) as rig:
            rig.put(3)
            await eventually(lambda: len(bridge.batches()) >= 3, "all out")
            epoch = bridge.batches()[0].stamp.batch.epoch
            bridge.answers = True
            bridge.command(NODE_ID, DurableMark(epoch, 1000).to_payload(1))
            await eventually(lambda: any(m.stamp.batch.epoch > epoch for m in bridge.batches()), "the new epoch")
            await rig.delivered()

    asyncio.run(scenario())
    epochs = Counter(message.stamp.batch.epoch for message in bridge.batches())
    assert len(epochs) == 2


def test_a_long_outage_of_the_bridge_does_not_flood_the_broker(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP, answers=False)

    async def scenario() -> None:
        async with running(broker.port, tmp_path, window=10, resend_after_s=0.2, resend_max_s=60) as rig:
            rig.put(100)
            await eventually(lambda: len(bridge.batches()) >= 30, "resent twice")
            await asyncio.sleep(0.5)
            # 0.2, 0.4, 0.8 s between: three windows and the fourth at the most, however much is spooled.
            assert len(bridge.batches()) <= 40
            assert await rig.depth() == 100

    asyncio.run(scenario())


def test_a_stop_delivers_what_is_left_then_says_goodbye(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, wait_for: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        rig = Rig(broker.port, tmp_path)
        await rig.spool.start()
        rig.put(100)
        await rig.spool.flush()
        rig.uplink.drain()
        async with asyncio.timeout(20):
            await rig.uplink.run()
        assert await rig.depth() == 0
        await rig.spool.close(clean=True)

    asyncio.run(scenario())
    wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    assert bridge.batch_numbers() == list(range(1, 101))
    assert bridge.received[-1].topic.message_type is MessageType.NDEATH


def test_a_broker_that_hangs_is_given_up_and_found_again(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        async with running(broker.port, tmp_path, keepalive_s=1, connect_timeout_s=1) as rig:
            rig.put(3)
            await rig.delivered()
            broker.suspend()
            rig.put(3)
            await eventually(lambda: not rig.uplink.status.connected, "the silence is noticed")
            broker.resume()
            await rig.delivered()

    asyncio.run(scenario())
    assert set(bridge.batch_numbers()) == set(range(1, 7))


def certificates(directory: Path) -> None:
    """A throw-away authority, and one certificate of its for both ends."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "1")
    openssl("req", *key, "-keyout", "end.key", "-out", "end.csr", "-subj", "/CN=edge-1")
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "san")
    openssl("x509", "-req", "-in", "end.csr", "-out", "end.pem", *signing)


def test_tls_with_a_certificate_and_a_password(new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any) -> None:
    certificates(tmp_path)
    tls_port = free_port()
    extra = [
        f"listener {tls_port} 127.0.0.1",
        f"cafile {tmp_path}/ca.pem",
        f"certfile {tmp_path}/end.pem",
        f"keyfile {tmp_path}/end.key",
        "require_certificate true",
    ]
    files = {"ca_file": tmp_path / "ca.pem", "cert_file": tmp_path / "end.pem", "key_file": tmp_path / "end.key"}
    (tmp_path / "password").write_text("secret")

    async def scenario(port: int) -> None:
        good = {"tls": files, "username": "edge-1", "password_file": tmp_path / "password"}
        async with running(port, tmp_path, **good) as rig:
            rig.put(3)
            await rig.delivered()
        async with running(port, tmp_path, tls={"ca_file": tmp_path / "ca.pem"}) as rig:
            await eventually(lambda: rig.uplink.status.error, "refused without a certificate")
            assert not rig.uplink.status.connections

    with Mosquitto(directory=tmp_path / "mosquitto", extra=extra) as server:
        new_bridge(server.port, GROUP)
        asyncio.run(scenario(tls_port))


def test_certificates_that_are_not_there_are_told_and_tried_again(
    broker: Mosquitto, tmp_path: Path, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running(broker.port, tmp_path, tls={"ca_file": tmp_path / "none.pem"}) as rig:
            rig.put(1)
            await eventually(lambda: "cannot be used" in (rig.uplink.status.error or ""), "the error")

    asyncio.run(scenario())
    assert caplog.text.count("certificates or password") == 1


def test_data_that_the_broker_refuses_is_kept_and_told_once(
    new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rules = [f"topic readwrite spBv1.0/+/{kind}/#" for kind in ("NBIRTH", "DBIRTH", "NDEATH", "NCMD")]
    acl = tmp_path / "acl"
    acl.write_text("\n".join(rules) + "\n")
    acl.chmod(0o600)

    async def scenario(server: Mosquitto, bridge: Any) -> None:
        async with running(server.port, tmp_path, resend_after_s=0.2, resend_max_s=0.4) as rig:
            rig.put(3)
            await eventually(lambda: "are refused: Not authorized" in caplog.text, "the refusal is told")
            assert await rig.depth() == 3
            acl.write_text("topic readwrite spBv1.0/#\n")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGHUP)
            await rig.delivered()
        assert set(bridge.batch_numbers()) == {1, 2, 3}

    with Mosquitto(directory=tmp_path / "mosquitto", extra=[f"acl_file {acl}"]) as server:
        asyncio.run(scenario(server, new_bridge(server.port, GROUP)))


def test_a_batch_that_the_disk_has_garbled_does_not_block_the_others(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        async with running(broker.port, tmp_path, historical_after_s=0.001) as rig:
            rig.put(1)
            rig.spool.put(Batch("plant", b"\x0a\xffgarbled", 1, 1))
            rig.put(1)
            await rig.delivered()

    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1, 2, 3]


@pytest.mark.parametrize("limit", ["max_packet_size 3000", "message_size_limit 2000"])
def test_a_batch_that_is_too_large_for_the_broker_becomes_a_gap_and_blocks_nothing(
    new_bridge: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    monkeypatch.setattr("edge.uplink.uplink._BACKOFF_CAP_S", 0.1)

    async def scenario(port: int) -> None:
        async with running(port, tmp_path, resend_after_s=0.2) as rig:
            rig.put(1)
            rig.spool.put(Batch("plant", encode(Payload(5, (LARGE,))), 5, 6))
            rig.put(1)
            await rig.delivered()

    with Mosquitto(directory=tmp_path / "mosquitto", extra=[limit]) as server:
        bridge = new_bridge(server.port, GROUP)
        asyncio.run(scenario(server.port))
    assert set(bridge.batch_numbers()) == {1, 2, 3}
    gaps = {Gap.from_metric(m) for r in bridge.batches() for m in r.payload.metrics if m.name == GAP}
    assert gaps == {Gap(5, 6, "too large for the broker")}
    assert len([record for record in caplog.records if "takes no payload of" in record.message]) == 1


def test_births_that_are_too_large_for_the_broker_are_told_with_the_remedy(tmp_path: Path, eventually: Any) -> None:
    async def scenario(port: int) -> None:
        async with running(port, tmp_path) as rig:
            rig.put(1)
            await eventually(lambda: "split the source" in (rig.uplink.status.error or ""), "the error")
            assert await rig.depth() == 1

    with Mosquitto(directory=tmp_path / "mosquitto", extra=["max_packet_size 1500"]) as server:
        asyncio.run(scenario(server.port))


def publish_raw(port: int, topic: str, user_property: bytes, qos: int) -> None:
    """A PUBLISH with a user property that paho would not send."""

    def text(content: bytes) -> bytes:
        return len(content).to_bytes(2, "big") + content

    def packet(first: int, body: bytes) -> bytes:
        assert len(body) < 128
        return bytes([first, len(body)]) + body

    properties = b"\x26" + text(b"k") + text(user_property)
    mid = b"\0\1" if qos else b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(packet(0x10, text(b"MQTT") + b"\5\2\0\x3c\0" + text(b"raw")))
        assert connection.recv(100)[0] == 0x20
        connection.sendall(packet(0x30 | qos << 1, text(topic.encode()) + mid + bytes([len(properties)]) + properties))
        connection.sendall(b"\xc0\0")
        # The answer to the ping says that it has read what came before.
        answered = b""
        while not answered.endswith(b"\xd0\0"):
            answered += connection.recv(100)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_command_that_paho_cannot_read_costs_one_connection(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any, qos: int
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        async with running(broker.port, tmp_path) as rig:
            rig.put(1)
            await rig.delivered()
            await asyncio.to_thread(publish_raw, broker.port, f"spBv1.0/{GROUP}/NCMD/{NODE_ID}", b"\xef\xbb\xbf", qos)
            await eventually(lambda: rig.uplink.status.error, "the connection is lost")
            await eventually(lambda: rig.uplink.status.connected, "the next one")
            rig.put(1)
            await rig.delivered()
            assert rig.uplink.status.connections == 2

    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1, 2]


def test_what_is_commanded_while_the_node_is_away_does_not_wait_for_it(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        async with running(broker.port, tmp_path) as rig:
            rig.put(1)
            await rig.delivered()

    asyncio.run(scenario())
    publish_raw(broker.port, f"spBv1.0/{GROUP}/NCMD/{NODE_ID}", b"\xef\xbb\xbf", 1)
    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1, 2]
    assert len(bridge.of_type(MessageType.NBIRTH)) == 2


def test_a_stop_whose_last_batches_the_disk_does_not_take_makes_no_connection_after_another(
    broker: Mosquitto, new_bridge: Callable[..., Any], tmp_path: Path, eventually: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)

    async def scenario() -> None:
        rig = Rig(broker.port, tmp_path)
        await rig.spool.start()
        await rig.spool._call(lambda file: file._db.execute("pragma max_page_count = 1").fetchall())
        rig.spool.put(Batch("plant", encode(Payload(5, (replace(LARGE, value="x" * 100_000),))), 5, 6))
        await rig.spool.flush()
        assert rig.spool.buffered == 1
        rig.uplink.drain()
        task = asyncio.create_task(rig.uplink.run())
        await eventually(lambda: rig.uplink.status.connected, "the connection")
        # As long as the disk takes nothing there is nothing to deliver; then there is.
        await asyncio.sleep(0.5)
        await rig.spool._call(lambda file: file._db.execute("pragma max_page_count = 10000").fetchall())
        async with asyncio.timeout(20):
            await task
        await rig.spool.close(clean=True)

    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1]
    assert len(bridge.of_type(MessageType.NBIRTH)) == 1
