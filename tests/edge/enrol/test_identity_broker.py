"""A whole agent with an identity of its own, against a real broker that wants certificates."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from contract.topics import MessageType
from fleet.authority import Revoked, issue, new_authority, revocation_list
from stack import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge.enrol.directory import Identity, IdentityDirectory
    from fleet.authority import Identity as Authority

OVERDUE = dt.timedelta(seconds=100)
YEAR = dt.timedelta(days=365)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class GuardedBroker:
    """Mosquitto with a port for the scripted bridge, and one that wants certificates of the fleet."""

    def __init__(self, directory: Path, fleet: Any) -> None:
        directory.mkdir()
        self.tls_port = free_port()
        self._directory = directory
        self._fleet = fleet
        extra = [
            f"listener {self.tls_port} 127.0.0.1",
            f"cafile {directory}/ca.pem",
            f"certfile {directory}/server.pem",
            f"keyfile {directory}/server.pem",
            f"crlfile {directory}/crl.pem",
            "require_certificate true",
            "use_identity_as_username true",
        ]
        self.server = Mosquitto(directory=directory / "mosquitto", extra=extra)

    def equip(
        self, *revoked: Identity, trusted: Authority | None = None, authority: Authority | None = None
    ) -> GuardedBroker:
        """Writes what it has: its own certificate, whom it trusts, and who is revoked; all of it right by default."""
        now = dt.datetime.now(dt.UTC)
        fleet = self._fleet
        serials = [x509.load_pem_x509_certificate(each.chain_pem.encode()).serial_number for each in revoked]
        files = {
            "server.pem": issue(authority or fleet.issuing, "broker", YEAR, ["127.0.0.1"]).pem,
            "ca.pem": (trusted or fleet.root).certificate_pem,
            "crl.pem": revocation_list(fleet.issuing, [Revoked(serial, now) for serial in serials]),
        }
        for name, content in files.items():
            (self._directory / name).write_bytes(content)
        return self


@pytest.fixture
def guarded(tmp_path: Path, scripted_fleet: Any) -> Iterator[GuardedBroker]:
    """Not started yet."""
    broker = GuardedBroker(tmp_path / "guarded", scripted_fleet)
    yield broker.equip()
    broker.server.close()


def test_a_renewed_certificate_is_used_at_once_and_nothing_is_lost(
    scripted_fleet: Any, identity_directory: IdentityDirectory, guarded: GuardedBroker, node: Any, new_bridge: Any
) -> None:
    guarded.server.start()
    bridge = new_bridge(guarded.server.port, "identity")
    identity_directory.put(scripted_fleet.identity(OVERDUE))
    scripted_fleet.stop()

    async def scenario() -> None:
        async with node.running("127.0.0.1", guarded.tls_port) as agent:
            await node.eventually(lambda: len(node.delivered(bridge)) > 10, "it delivers with the old certificate")
            scripted_fleet.start()
            await node.eventually(lambda: scripted_fleet.issued, "it asks")
            before = len(node.delivered(bridge))
            await node.eventually(lambda: len(bridge.of_type(MessageType.NBIRTH)) > 1, "it is born again")
            await node.eventually(lambda: len(node.delivered(bridge)) > before + 10, "it delivers with the new one")
            told: Any = await agent.report()
            assert told["uplink"]["connections"] == 2
            assert (told["identity"]["renewals"], told["identity"]["error"]) == (1, None)

    asyncio.run(scenario())
    assert node.delivered(bridge) == node.served()
    assert len(scripted_fleet.issued) == 1


REFUSALS = {
    "expired": "hangs up on us: it says that our certificate has expired",
    "revoked": "hangs up on us: it says that our certificate is revoked",
    "of an authority that the broker does not know": "it does not know the authority of our certificate",
    "good, but the broker's is of another authority": "its certificate is not of the authority that we trust",
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_certificate_that_is_refused_is_told_and_what_is_read_meanwhile_is_kept(
    fault: str,
    scripted_fleet: Any,
    identity_directory: IdentityDirectory,
    guarded: GuardedBroker,
    node: Any,
    request: pytest.FixtureRequest,
) -> None:
    caplog: pytest.LogCaptureFixture = request.getfixturevalue("caplog")
    ours = scripted_fleet.identity(dt.timedelta(seconds=-60) if fault == "expired" else YEAR)
    identity_directory.put(ours)
    other = new_authority("other", YEAR)
    match fault.split(maxsplit=1)[0]:
        case "revoked":
            guarded.equip(ours)
        case "of":
            guarded.equip(trusted=other)
        case "good,":
            guarded.equip(authority=other)
    guarded.server.start()
    bridge = request.getfixturevalue("new_bridge")(guarded.server.port, "identity")

    async def scenario() -> None:
        async with node.running("127.0.0.1", guarded.tls_port):
            await node.eventually(lambda: REFUSALS[fault] in caplog.text, "the log has the reason")
            kept = len(node.served())
            assert node.delivered(bridge) == set()
            # What mends it: another certificate, as `edge enrol` puts it there, or a broker that is put right.
            if fault in {"expired", "revoked"}:
                identity_directory.put(scripted_fleet.identity())
            else:
                guarded.equip().server.restart()
            await node.eventually(lambda: len(node.delivered(bridge)) > kept + 3, "it delivers")

    asyncio.run(scenario())
    assert node.delivered(bridge) == node.served()
