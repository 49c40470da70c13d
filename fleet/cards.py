"""What goes on a device's card."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from contract.enrolment import BrokerAddress, Enrolment, written
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.authority import Identity
    from fleet.home import Home
    from fleet.registry import Node

_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Card:
    """An enrolment with a token, or without one and with an identity. Secret, but for `ca_pem`."""

    enrolment: Enrolment
    identity: Identity | None = None

    def accept(self, home: Home) -> None:
        """Has its token be the node's only one, or none be good where it is baked: it lies where it belongs.

        Raises FleetError where the node was revoked meanwhile.
        """
        node, token = _able(home, self.enrolment.node).name, self.enrolment.token
        if token is None:
            home.registry.drop_token(node)
            return
        ends_at = dt.datetime.now(dt.UTC) + home.settings.lifetimes.token
        home.registry.put_token(node, token_digest(token.get_secret_value()), ends_at)

    @property
    def certificate_ends_at(self) -> dt.datetime | None:
        """Until when a baked one is good, where the node renews no later one: nobody at such a site does."""
        return None if self.identity is None else self.identity.certificate.not_valid_after_utc

    def to_json(self) -> bytes:
        """`enrol.json`."""
        return written(self.enrolment)

    @property
    def ca_pem(self) -> bytes:
        """Certificate of the fleet's root."""
        return self.enrolment.ca_pem.encode()

    @property
    def key_pem(self) -> bytes | None:
        """The baked key."""
        return None if self.identity is None else self.identity.key_pem

    @property
    def cert_pem(self) -> bytes | None:
        """The baked certificate, and those up to the root."""
        return None if self.identity is None else self.identity.chain_pem


def card_with_token(home: Home, name: str) -> Card:
    """A card with a new token."""
    return Card(_enrolment(home, _able(home, name), secrets.token_urlsafe(_TOKEN_BYTES)))


def baked_card(home: Home, name: str) -> Card:
    """A card with a key and a certificate, which calls back no other: that one may be renewed meanwhile.

    That would call back this one: a spare card is none for a node that renews.
    """
    return Card(_enrolment(home, _able(home, name), None), home.issue(name, life=home.settings.lifetimes.baked))


def token_digest(token: str) -> str:
    """What is kept of a token: it is random and long, so that nothing slower is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _able(home: Home, name: str) -> Node:
    node = home.registry.node(name)
    if node.revoked_at is not None:
        raise FleetError(f"{name} was revoked at {node.revoked_at.isoformat()}: `fleet enrol {name}` takes it in again")
    return node


def _enrolment(home: Home, node: Node, token: str | None) -> Enrolment:
    broker = home.settings.broker
    return Enrolment(
        fleet=home.settings.name,
        group=node.group,
        node=node.name,
        broker=BrokerAddress(host=broker.host, port=broker.port),
        url=home.settings.url,
        ca_pem=home.root_pem.decode(),
        token=None if token is None else SecretStr(token),
        update_key=home.update_public_pem.decode(),
    )
