"""A device and the fleet itself: `fleet serve` and the broker that it makes, from the card to the revocation."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from contract.enrolment import Enrolment, read_message
from contract.topics import MessageType
from edge.__main__ import main
from edge.enrol.directory import Identity, IdentityDirectory, without_token
from fleet.authority import issue
from fleet.revoking import revoke
from fleet.serve import Endpoint
from fleet.settings import Lifetimes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.home import Home

NODE = "pi-007"
GROUP = "plant"
REFUSED, NOT_YET = 1, 75
# Certificates are dated five minutes back: with so much to come, two thirds of the life are over.
OVERDUE_S = 100.0
_DAY_S = 86_400


def hurried(home: Home, **lifetimes: float) -> Home:
    """The same fleet in more of a hurry."""
    return replace(home, settings=home.settings.model_copy(update={"lifetimes": Lifetimes(**lifetimes)}))


class Serving:
    """The real endpoint, started and stopped by a test."""

    def __init__(self) -> None:
        self._running: tuple[Endpoint, threading.Thread] | None = None

    def start(self, home: Home) -> None:
        self.stop()
        endpoint = Endpoint(home, "127.0.0.1", home.settings.endpoint[1])
        thread = threading.Thread(target=endpoint.serve_forever, args=(0.02,))
        thread.start()
        self._running = endpoint, thread

    def stop(self) -> None:
        if self._running is not None:
            endpoint, thread = self._running
            endpoint.shutdown()
            thread.join()
            endpoint.server_close()
            self._running = None


@pytest.fixture
def serving() -> Iterator[Serving]:
    made = Serving()
    yield made
    made.stop()


class Desk:
    """What an operator does for the device, and the device with what it is given."""

    def __init__(self, home: Home, etc: Path, directory: IdentityDirectory) -> None:
        self.home = home
        self._card = etc / "enrol.json"
        self.directory = directory
        etc.mkdir()
        home.add_node(NODE, GROUP)

    def card(self, home: Home | None = None) -> bytes:
        """A new card, put on the device."""
        content = (home or self.home).enrolment_for(NODE).to_json()
        self._card.write_bytes(content)
        return content

    def put_card(self, content: bytes) -> None:
        self._card.write_bytes(content)

    def enrol(self, directory: IdentityDirectory | None = None) -> int:
        return main(["enrol", str(self._card), "--out", str(directory or self.directory), "--wait-s", "0"])

    def put(self, made: Any) -> Identity:
        """An identity straight from the authority, put on the device."""
        enrolment = without_token(read_message(self.home.enrolment_for(NODE).to_json(), Enrolment, "card"))
        identity = Identity(enrolment, made.key_pem.decode(), made.chain_pem.decode())
        self.directory.put(identity)
        return identity


@pytest.fixture
def desk(fleet: Any, tmp_path: Path, identity_directory: IdentityDirectory) -> Desk:
    return Desk(fleet.home, tmp_path / "etc", identity_directory)


@pytest.fixture
def bridge(fleet: Any, new_bridge: Any, tmp_path: Path) -> Any:
    """A host application of the fleet's, with a certificate of its own."""
    home = fleet.home
    home.add_host("headwater-bridge")
    pem = tmp_path / "bridge.pem"
    pem.write_bytes(home.issue("headwater-bridge").pem)
    tls = ssl.create_default_context(cafile=home.path / "root/ca.pem")
    tls.load_cert_chain(pem)
    return new_bridge(home.settings.broker.port, GROUP, tls=tls)


def test_a_device_from_its_card_to_its_revocation_and_back(
    desk: Desk, serving: Serving, node: Any, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    home, broker = desk.home, desk.home.settings.broker
    node.group = GROUP
    serving.start(hurried(home, node_days=OVERDUE_S / _DAY_S))
    desk.card()
    assert desk.enrol() == 0
    serving.stop()
    bridge = request.getfixturevalue("bridge")

    async def scenario() -> None:
        async with node.running(broker.host, broker.port):
            await node.eventually(lambda: len(node.delivered(bridge)) > 5, "it delivers with its first certificate")

            await asyncio.to_thread(serving.start, home)
            await node.eventually(lambda: len(home.registry.certificates_of(NODE)) == 2, "it is renewed")
            await node.eventually(lambda: len(bridge.of_type(MessageType.NBIRTH)) > 1, "it is born again")
            before = len(node.delivered(bridge))
            await node.eventually(lambda: len(node.delivered(bridge)) > before + 5, "it delivers with its second")

            await asyncio.to_thread(revoke, home, NODE)
            reason = "hangs up on us: it says that our certificate is revoked"
            await node.eventually(lambda: reason in caplog.text, "the log has the reason")
            before = len(node.delivered(bridge))

            home.add_node(NODE, GROUP)
            desk.card()
            assert await asyncio.to_thread(desk.enrol) == 0
            await node.eventually(lambda: len(node.delivered(bridge)) > before + 5, "it delivers with its third")

    asyncio.run(scenario())
    assert node.delivered(bridge) == node.served()


def test_a_token_serves_one_device_once_and_not_for_ever(
    desk: Desk, serving: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serving.start(desk.home)
    stolen = desk.card()
    assert desk.enrol() == 0
    first = desk.directory.read()

    desk.put_card(stolen)
    thief = IdentityDirectory(tmp_path / "thief")
    assert desk.enrol(thief) == REFUSED
    assert "refuses: pi-007's token was used already, with another key" in capsys.readouterr().err

    desk.card(hurried(desk.home, token_hours=1e-9))
    assert desk.enrol() == REFUSED
    assert "refuses: pi-007's token expired at" in capsys.readouterr().err

    old = desk.card()
    desk.card()
    desk.put_card(old)
    assert desk.enrol() == REFUSED
    assert "refuses: this is no token of pi-007's" in capsys.readouterr().err

    assert thief.read() is None
    assert desk.directory.read() == first


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("revoked", "this certificate was revoked"),
        ("expired", "it says that our certificate has expired"),
        ("not in the registry", "is not in the registry"),
    ],
)
def test_a_certificate_that_is_not_good_is_not_renewed(
    fault: str, reason: str, desk: Desk, serving: Serving, renew_once: Any
) -> None:
    home = desk.home
    match fault:
        case "revoked":
            made = home.issue(NODE, life=dt.timedelta(seconds=OVERDUE_S))
            identity = desk.put(made)
            revoke(home, NODE)
        case "expired":
            identity = desk.put(home.issue(NODE, life=dt.timedelta(seconds=-60)))
        case _:
            identity = desk.put(issue(home.issuing(), NODE, dt.timedelta(seconds=OVERDUE_S)))
    serving.start(home)
    assert reason in renew_once(identity)
    assert desk.directory.read() == identity
