"""How a device becomes a member of a fleet: what lies on its card, and what it and the fleet say to each other.

The device makes its own key, which never leaves it, and asks for a certificate over TLS: the first time with a
one-time token (POST `ENROL_PATH`), after that with the certificate that it has (POST `RENEW_PATH`, mutual TLS). Bodies
are JSON; 200 answers with `Issued`, anything else with `Refusal`. A token serves one key: sent again with the same key,
because an answer was lost on its way, it is answered again.
"""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal, TypeVar

from pydantic import Field, SecretStr, field_serializer

from contract.card import Name, parse_document
from contract.config import Config, parse_config

ConfigT = TypeVar("ConfigT", bound=Config)

ENROL_PATH: Final = "/v1/enrol"
RENEW_PATH: Final = "/v1/renew"
# On a card or in a bundle; on the device in /etc/headwater.
ENROLMENT_FILE: Final = "enrol.json"
# In the device's directory of its identity, and beside the enrolment where they are baked.
KEY_FILE: Final = "key.pem"
CERTIFICATE_FILE: Final = "cert.pem"
CA_FILE: Final = "ca.pem"

MAX_REQUEST_BYTES: Final = 16 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024
# Of its life, a certificate is renewed after so much.
RENEWED_AFTER: Final = 2 / 3

Pem = Annotated[str, Field(max_length=32 * 1024, pattern=r"^-----BEGIN [A-Z ]+-----\n")]
CsrPem = Annotated[str, Field(max_length=8 * 1024, pattern=r"^-----BEGIN CERTIFICATE REQUEST-----\n")]
Token = Annotated[SecretStr, Field(min_length=32, max_length=128)]


class BrokerAddress(Config):
    """Where a device finds the broker."""

    host: str = Field(min_length=1, max_length=253, description="name or address, as in the broker's certificate")
    port: int = Field(ge=1, le=65_535, description="TCP port, of MQTT over TLS")


class Enrolment(Config):
    """What a device is told before its first start; without a token its key and certificate lie beside this."""

    version: Literal[1] = Field(default=1, description="how this is written")
    fleet: str = Field(max_length=200, description="the fleet's name, for people")
    group: Name = Field(description="the node's Sparkplug group")
    node: Name = Field(description="its edge node id, its certificate's common name and its MQTT client id")
    broker: BrokerAddress = Field(description="the broker")
    url: str = Field(max_length=500, pattern=r"^https://[^\s/]+(/\S*)?$", description="the enrolment endpoint")
    ca_pem: Pem = Field(description="certificate of the fleet's root: what the device trusts, and nothing else")
    token: Token | None = Field(default=None, description="one-time token; none: a certificate is there already")
    update_key: Pem = Field(description="public key (Ed25519) of who signs updates")

    @field_serializer("token", when_used="json")
    def _plainly(self, token: SecretStr | None) -> str | None:
        return None if token is None else token.get_secret_value()


class EnrolRequest(Config):
    """What a device says at `ENROL_PATH`."""

    node: Name = Field(description="who it is")
    token: Token = Field(description="what shows it")
    csr: CsrPem = Field(description="PKCS #10 request, P-256, whose common name is the node")

    @field_serializer("token", when_used="json")
    def _plainly(self, token: SecretStr) -> str:
        return token.get_secret_value()


class RenewRequest(Config):
    """What a device says at `RENEW_PATH`: who it is, its present certificate shows."""

    csr: CsrPem = Field(description="PKCS #10 request, P-256, whose common name is the node")


class Issued(Config):
    """A certificate."""

    certificate: Pem = Field(description="the device's certificate, then those up to the root, which is not among them")


class Refusal(Config):
    """Why there is none."""

    reason: str = Field(max_length=500, description="for the log, and for the person who reads it")


def read_message(text: bytes, model: type[ConfigT], origin: str) -> ConfigT:
    """An enrolment, a request or an answer in JSON; raises ConfigError. `origin` is what errors call it."""
    return parse_config(parse_document(text, origin), model, origin)


def written(message: Config) -> bytes:
    """The same as JSON, a token in it as it is: for a file of mode 0600, or for TLS."""
    return json.dumps(message.model_dump(mode="json"), indent=2).encode() + b"\n"
