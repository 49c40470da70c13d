"""A broker that is killed, hangs, forgets, refuses, or wants certificates."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from contract.datatypes import DataType
from contract.delivery import GAP, Gap
from contract.sparkplug import Metric, Payload, encode
from contract.topics import MessageType
from edge.batch import Batch
from stack import Mosquitto
from stack.server import free_port

if TYPE_CHECKING:
    from pathlib import Path

LARGE = Metric("note", DataType.STRING, "x" * 4000, 5)


def test_a_broker_killed_with_its_store_deleted_loses_nothing(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(window=64) as rig:
            rig.put(40)
            await site.eventually(lambda: len(bridge.batches()) >= 40, "all out")
            await asyncio.to_thread(site.broker.kill)
            shutil.rmtree(site.broker.data_dir)
            rig.put(40)
            bridge.answers = True
            await asyncio.to_thread(site.broker.start)
            await rig.delivered()

    asyncio.run(scenario())
    births = bridge.of_type(MessageType.NBIRTH)
    assert len({birth.payload.metrics[0].value for birth in births}) >= 2, "each connection has its own bdSeq"
    assert set(bridge.batch_numbers()) == set(range(1, 81))
    second_birth = bridge.received.index(births[1])
    after = [m.topic.message_type for m in bridge.received[second_birth:]]
    assert after[:3] == [MessageType.NBIRTH, MessageType.DBIRTH, MessageType.DDATA]


def test_a_broker_that_is_absent_at_the_start_is_waited_for(site: Any) -> None:
    site.broker.stop()

    async def scenario() -> None:
        async with site.running() as rig:
            rig.put(5)
            await site.eventually(lambda: rig.uplink.status.error, "the failure is known")
            assert await rig.depth() == 5
            await asyncio.to_thread(site.broker.start)
            await asyncio.to_thread(site.bridge)
            await rig.delivered()
            assert rig.uplink.status.error is None

    asyncio.run(scenario())


def test_births_that_reach_nobody_are_sent_until_a_bridge_is_there(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with site.running() as rig:
            rig.put(5)
            await site.eventually(lambda: "reach nobody" in caplog.text, "it is told")
            status = rig.uplink.status
            assert (status.connected, status.error) == (False, "births reach nobody: no bridge has subscribed")
            bridge = await asyncio.to_thread(site.bridge)
            await rig.delivered()
            assert (status.connected, status.error) == (True, None)
            kinds = [m.topic.message_type for m in bridge.received[:3]]
            assert kinds == [MessageType.NBIRTH, MessageType.DBIRTH, MessageType.DDATA]

    asyncio.run(scenario())
    assert caplog.text.count("reach nobody") == 1


def test_two_nodes_of_one_name_throw_each_other_out_and_lose_nothing(
    site: Any, far_site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = site.bridge()
    other = replace(far_site, directory=site.directory / "other")

    async def scenario() -> None:
        async with site.running() as one, other.running() as two:
            one.put(20)
            two.put(20, first=100)
            await one.delivered()
            await two.delivered()
            await site.eventually(lambda: one.uplink.status.connections + two.uplink.status.connections >= 4, "a fight")

    asyncio.run(scenario())
    assert {m.payload.metrics[0].value for m in bridge.batches()} == {*range(20), *range(100, 120)}
    assert caplog.text.count("readings are spooled") <= 2, "told once by each"


def test_a_broker_that_hangs_is_given_up_and_found_again(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running(keepalive_s=1, connect_timeout_s=1) as rig:
            rig.put(3)
            await rig.delivered()
            site.broker.suspend()
            rig.put(3)
            await site.eventually(lambda: not rig.uplink.status.connected, "the silence is noticed")
            site.broker.resume()
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


def test_tls_with_a_certificate_and_a_password(far_site: Any) -> None:
    certificates(far_site.directory)
    tls_port = free_port()
    extra = [
        f"listener {tls_port} 127.0.0.1",
        f"cafile {far_site.directory}/ca.pem",
        f"certfile {far_site.directory}/end.pem",
        f"keyfile {far_site.directory}/end.key",
        "require_certificate true",
    ]
    files = {
        "ca_file": far_site.directory / "ca.pem",
        "cert_file": far_site.directory / "end.pem",
        "key_file": far_site.directory / "end.key",
    }
    (far_site.directory / "password").write_text("secret")

    async def scenario(port: int) -> None:
        good = {"tls": files, "username": "edge-1", "password_file": far_site.directory / "password"}
        async with far_site.running(port=port, **good) as rig:
            rig.put(3)
            await rig.delivered()
        async with far_site.running(port=port, tls={"ca_file": far_site.directory / "ca.pem"}) as rig:
            await far_site.eventually(lambda: rig.uplink.status.error, "refused without a certificate")
            assert not rig.uplink.status.connections

    with Mosquitto(directory=far_site.directory / "mosquitto", extra=extra) as server:
        far_site.bridge(server.port)
        asyncio.run(scenario(tls_port))


def test_certificates_that_are_not_there_are_told_and_tried_again(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with site.running(tls={"ca_file": site.directory / "none.pem"}) as rig:
            rig.put(1)
            await site.eventually(lambda: "cannot be used" in (rig.uplink.status.error or ""), "the error")

    asyncio.run(scenario())
    assert caplog.text.count("certificates or password") == 1


def test_data_that_the_broker_refuses_is_kept_and_told_once(far_site: Any, caplog: pytest.LogCaptureFixture) -> None:
    rules = [f"topic readwrite spBv1.0/+/{kind}/#" for kind in ("NBIRTH", "DBIRTH", "NDEATH", "NCMD")]
    acl = far_site.directory / "acl"
    acl.write_text("\n".join(rules) + "\n")
    acl.chmod(0o600)

    async def scenario(server: Mosquitto, bridge: Any) -> None:
        async with far_site.running(port=server.port, resend_after_s=0.2, resend_max_s=0.4) as rig:
            rig.put(3)
            await far_site.eventually(lambda: "are refused: Not authorized" in caplog.text, "the refusal is told")
            assert await rig.depth() == 3
            acl.write_text("topic readwrite spBv1.0/#\n")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGHUP)
            await rig.delivered()
        assert set(bridge.batch_numbers()) == {1, 2, 3}

    with Mosquitto(directory=far_site.directory / "mosquitto", extra=[f"acl_file {acl}"]) as server:
        asyncio.run(scenario(server, far_site.bridge(server.port)))


@pytest.mark.parametrize("limit", ["max_packet_size 3000", "message_size_limit 2000"])
def test_a_batch_that_is_too_large_for_the_broker_becomes_a_gap_and_blocks_nothing(
    far_site: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr("edge.uplink.delivery._RETRY_CAP_S", 0.1)

    async def scenario(port: int) -> None:
        async with far_site.running(port=port, resend_after_s=0.2) as rig:
            rig.put(1)
            rig.spool.put(Batch("plant", encode(Payload(5, (LARGE,))), 5, 6))
            rig.put(1)
            await rig.delivered()

    with Mosquitto(directory=far_site.directory / "mosquitto", extra=[limit]) as server:
        bridge = far_site.bridge(server.port)
        asyncio.run(scenario(server.port))
    assert set(bridge.batch_numbers()) == {1, 2, 3}
    gaps = {Gap.from_metric(m) for r in bridge.batches() for m in r.payload.metrics if m.name == GAP}
    assert gaps == {Gap(5, 6, "too large for the broker")}
    assert len([record for record in caplog.records if "takes no payload of" in record.message]) == 1


def test_births_that_are_too_large_for_the_broker_are_told_with_the_remedy(far_site: Any) -> None:
    async def scenario(port: int) -> None:
        async with far_site.running(port=port) as rig:
            rig.put(1)
            await far_site.eventually(lambda: "split the source" in (rig.uplink.status.error or ""), "the error")
            assert await rig.depth() == 1

    with Mosquitto(directory=far_site.directory / "mosquitto", extra=["max_packet_size 1500"]) as server:
        asyncio.run(scenario(server.port))
