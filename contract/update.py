"""Updates: what a node shall run, signed by its fleet; what the node tells of it is in `contract.update_news`.

A `Desired` says which agent, configuration or model, for whom, until when it holds, and the SHA-256 of what it is, as a
whole and chunk by chunk. It goes to the device as its signature in base64, a line feed, and its canonical JSON: sorted
keys, no spaces, ASCII. The Ed25519 signature is of `_DOMAIN` and that JSON, and is checked before any of it is read.

What it is: an agent and a model are archives (`contract.archive`), a configuration is the YAML itself. It lies at
`url`, or in retained messages, a chunk each (`chunk_topic`); the signed state is retained too (`desired_topic`), so
that a node which was away gets it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from contract.card import Name, Sha256, parse_document
from contract.config import Config, ConfigError, parse_config
from contract.errors import ContractError
from contract.topics import check_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NAMESPACE: Final = "headwater"
EVERY_NODE: Final = "*"
Kind: TypeAlias = Literal["agent", "config", "model"]

# What is in these, such as names of files and users, is nobody's business but the node's that it is for.
PRIVATE_KINDS: Final[frozenset[Kind]] = frozenset({"config"})
# With its topic a chunk is below 64 KiB, which devices take of a message.
CHUNK_BYTES: Final = 64_000
MAX_URL_CHUNK_BYTES: Final = 1 << 20
# Their digests fit into one message.
MAX_CHUNKS: Final = 900
MAX_DESIRED_BYTES: Final = 64_000
MAX_BYTES: Final[dict[Kind, int]] = {"agent": 512 << 20, "config": 256 << 10, "model": 128 << 20}
MAX_UNPACKED_BYTES: Final[dict[Kind, int]] = {"agent": 1 << 30, "config": 256 << 10, "model": 256 << 20}
_MAX_URL_CHARACTERS: Final = 1000
# What is signed for this cannot be taken for anything else that the key may sign.
_DOMAIN: Final = b"headwater desired state 1\n"
_SIGNATURE_BYTES: Final = 64

Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$")]


class SignatureError(ContractError):
    """A desired state that none of the keys has signed."""


def _group(identifier: str) -> str:
    check_identifier(identifier, "group")
    return identifier


def _node(identifier: str) -> str:
    check_identifier(identifier, "node")
    return identifier


class Target(Config):
    """Whom it is for."""

    group: Annotated[str, AfterValidator(_group)] = Field(description="Sparkplug group id")
    node: Annotated[str, AfterValidator(_node)] = Field(description="Sparkplug node id; *: every node of the group")

    def is_for(self, group: str, node: str) -> bool:
        """Whether it is for this node."""
        return self.group == group and self.node in {node, EVERY_NODE}


class Desired(Config):
    """What a node shall run."""

    format: Literal[1] = Field(default=1, description="how this is written")
    kind: Kind = Field(description="what it is")
    name: Name = Field(description="the model's name in the node's configuration; agent or config for those")
    version: Version = Field(description="what it is called")
    counter: int = Field(ge=1, le=2**53 - 1, description="greater than that of any before it of its kind and name")
    sha256: Sha256 = Field(description="SHA-256 of the whole")
    size: int = Field(ge=1, description="bytes of the whole")
    unpacked_bytes: int = Field(ge=1, description="bytes of all its files; of a configuration its size")
    chunk_bytes: int = Field(ge=1, description="bytes of each chunk but the last")
    chunks: tuple[Sha256, ...] = Field(min_length=1, max_length=MAX_CHUNKS, description="SHA-256 of each chunk")
    target: Target = Field(description="whom it is for")
    expires_at: AwareDatetime = Field(description="from when on it is not taken any more")
    url: str | None = Field(
        default=None, max_length=_MAX_URL_CHARACTERS, description="where it lies; none: in retained messages"
    )

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        for what, value, most in (
            ("size", self.size, MAX_BYTES[self.kind]),
            ("unpacked_bytes", self.unpacked_bytes, MAX_UNPACKED_BYTES[self.kind]),
            ("chunk_bytes", self.chunk_bytes, CHUNK_BYTES if self.url is None else MAX_URL_CHUNK_BYTES),
        ):
            if value > most:
                raise ValueError(f"{what} is {value}: allowed are {most}")
        if len(self.chunks) != (wanted := math.ceil(self.size / self.chunk_bytes)):
            raise ValueError(f"{len(self.chunks)} chunks: {self.size} bytes are {wanted} of {self.chunk_bytes}")
        return self

    @model_validator(mode="after")
    def _is_called_right(self) -> Self:
        if self.kind not in {"model", self.name}:
            raise ValueError(f"name is {self.name}: allowed for kind {self.kind} is {self.kind}")
        if self.url is not None:
            parsed = urlsplit(self.url)
            if parsed.scheme not in {"http", "https"} or not parsed.hostname:
                raise ValueError(f"url is {self.url!r}: allowed is http(s)://HOST/...")
        return self

    @property
    def key(self) -> str:
        """What it takes the place of: its kind and name."""
        return f"{self.kind}/{self.name}"

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.key} {self.version}"

    def chunk_topic(self, number: int) -> str:
        """Where a chunk, counted from 0, is retained: one node's configuration where it alone may read, if any."""
        is_its_own = self.kind in PRIVATE_KINDS and self.target.node != EVERY_NODE
        return blob_topic(self.target.group, self.sha256, number, self.target.node if is_its_own else None)

    def chunk_size(self, number: int) -> int:
        """Bytes of a chunk, counted from 0."""
        return min(self.chunk_bytes, self.size - number * self.chunk_bytes)

    def canonical(self) -> bytes:
        """The one way to write it."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()


def signed(desired: Desired, key: Ed25519PrivateKey) -> bytes:
    """What goes to the device; raises ConfigError for one that no message holds."""
    text = desired.canonical()
    payload = base64.b64encode(key.sign(_DOMAIN + text)) + b"\n" + text
    if len(payload) > MAX_DESIRED_BYTES:
        raise ConfigError(f"{desired.title}: {len(payload)} bytes of manifest: allowed are {MAX_DESIRED_BYTES}")
    return payload


def opened(payload: bytes, keys: Sequence[Ed25519PublicKey], origin: str) -> Desired:
    """The desired state that one of `keys` has signed; raises SignatureError, and ConfigError for what is none."""
    return opened_by(payload, keys, origin)[0]


def opened_by(payload: bytes, keys: Sequence[Ed25519PublicKey], origin: str) -> tuple[Desired, Ed25519PublicKey]:
    """The desired state, and which of `keys` has signed it; raises as `opened`."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - memory that an agent without updates saves

    if len(payload) > MAX_DESIRED_BYTES:
        raise SignatureError(f"{origin}: {len(payload)} bytes: allowed are {MAX_DESIRED_BYTES}")
    signature, _, text = payload.partition(b"\n")
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError as exc:
        raise SignatureError(f"{origin}: its first line is no signature: {exc}") from exc
    if len(raw) != _SIGNATURE_BYTES:
        raise SignatureError(f"{origin}: its first line is no signature of Ed25519")
    for key in keys:
        try:
            key.verify(raw, _DOMAIN + text)
        except InvalidSignature:
            continue
        return _parsed(text, origin), key
    raise SignatureError(f"{origin}: is not signed by the fleet's update key, or was changed since")


def public_key(pem: bytes, origin: str) -> Ed25519PublicKey:
    """The key in a PEM; raises ConfigError for what is no Ed25519 public key."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"{origin}: is no public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{origin}: is not a key of Ed25519")
    return key


def chunk_hashes(file: BinaryIO, chunk_bytes: int = CHUNK_BYTES) -> tuple[str, int, tuple[str, ...]]:
    """Of what is in a file: SHA-256 of the whole, its size, and SHA-256 of each chunk."""
    whole, size, chunks = hashlib.sha256(), 0, []
    while chunk := file.read(chunk_bytes):
        whole.update(chunk)
        size += len(chunk)
        chunks.append(hashlib.sha256(chunk).hexdigest())
    return whole.hexdigest(), size, tuple(chunks)


def desired_topic(group: str, node: str, kind: Kind, name: str) -> str:
    """Where the signed state for a node, or for `EVERY_NODE`, is retained."""
    return f"{NAMESPACE}/{group}/desired/{node}/{kind}/{name}"


def desired_filters(group: str, node: str) -> tuple[str, str]:
    """What a node subscribes to: the states for it alone, and those for its whole group."""
    return f"{NAMESPACE}/{group}/desired/{node}/+/+", f"{NAMESPACE}/{group}/desired/{EVERY_NODE}/+/+"


def blob_topic(group: str, sha256: str, number: int, node: str | None = None) -> str:
    """Where a chunk, counted from 0, of what has this SHA-256 is retained, for a group or for one node alone."""
    place = "blob" if node is None else f"desired/{node}/blob"
    return f"{NAMESPACE}/{group}/{place}/{sha256}/{number}"


def _parsed(text: bytes, origin: str) -> Desired:
    desired = parse_config(parse_document(text, origin), Desired, origin)
    if desired.canonical() != text:
        raise ConfigError(f"{origin}: is not written in its one way: sorted keys, no spaces")
    return desired
