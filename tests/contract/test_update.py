"""Desired states: what is signed, what is refused, and what nodes tell."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from contract.config import ConfigError
from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Metric
from contract.update import (
    MAX_CHUNKS,
    MAX_DESIRED_BYTES,
    Desired,
    SignatureError,
    chunk_hashes,
    desired_filters,
    desired_topic,
    opened,
    public_key,
    signed,
)
from contract.update_news import UpdateNews, UpdateState

KEY = Ed25519PrivateKey.generate()
DIGEST = "0" * 64


def desired(**more: Any) -> Desired:
    document = {
        "kind": "model",
        "name": "m",
        "version": "1.0",
        "counter": 7,
        "sha256": DIGEST,
        "size": 100,
        "unpacked_bytes": 200,
        "chunk_bytes": 60,
        "chunks": [DIGEST, DIGEST],
        "target": {"group": "g", "node": "n"},
        "expires_at": datetime(2030, 1, 1, tzinfo=UTC),
    }
    return Desired.model_validate(document | more)


def test_what_was_signed_is_opened_by_one_of_several_keys() -> None:
    keys = [Ed25519PrivateKey.generate().public_key(), KEY.public_key()]
    assert opened(signed(desired(), KEY), keys, "it") == desired()
    assert desired().title == "model/m 1.0"
    assert [desired().chunk_size(number) for number in range(2)] == [60, 40]


@given(st.data())
def test_no_byte_of_it_can_be_changed(data: st.DataObject) -> None:
    payload = bytearray(signed(desired(), KEY))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SignatureError, ConfigError)):
        opened(bytes(payload), [KEY.public_key()], "it")


@given(st.binary(max_size=200))
def test_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(SignatureError):
        opened(payload, [KEY.public_key()], "it")


def test_what_the_key_has_signed_for_something_else_is_none() -> None:
    import base64  # noqa: PLC0415 - here alone

    text = desired().canonical()
    with pytest.raises(SignatureError, match="not signed"):
        opened(base64.b64encode(KEY.sign(text)) + b"\n" + text, [KEY.public_key()], "it")


def test_there_is_one_way_to_write_it() -> None:
    assert json.loads(desired().canonical())["counter"] == 7

    class Sloppy(Desired):
        def canonical(self) -> bytes:
            return super().canonical().replace(b":7,", b": 7,")

    sloppy = Sloppy.model_validate(desired().model_dump())
    with pytest.raises(ConfigError, match="one way"):
        opened(signed(sloppy, KEY), [KEY.public_key()], "it")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"size": 1 << 40, "chunk_bytes": 60_000}, "size is"),
        ({"unpacked_bytes": 1 << 40}, "unpacked_bytes is"),
        ({"chunk_bytes": 64_001, "chunks": [DIGEST]}, "chunk_bytes is"),
        ({"chunks": [DIGEST]}, "1 chunks: 100 bytes are 2 of 60"),
        ({"kind": "config"}, "name is m: allowed for kind config is config"),
        ({"url": "ftp://host/file"}, "allowed is http"),
        ({"url": "https:///file"}, "allowed is http"),
        ({"version": "../1"}, "version"),
        ({"name": ".."}, "name"),
        ({"target": {"group": "a/b", "node": "n"}}, "group"),
        ({"expires_at": datetime(2030, 1, 1)}, "timezone"),  # noqa: DTZ001 - one without a zone
        ({"counter": 0}, "counter"),
        ({"chunks": [DIGEST.upper().replace("0", "A")] * 2}, "chunks"),
    ],
)
def test_bounds(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        desired(**more)


def test_the_largest_fits_into_a_message() -> None:
    largest = desired(
        kind="agent",
        name="agent",
        version="1" * 64,
        counter=2**53 - 1,
        size=MAX_CHUNKS * 64_000,
        unpacked_bytes=1 << 30,
        chunk_bytes=64_000,
        chunks=[DIGEST] * MAX_CHUNKS,
        target={"group": "g" * 128, "node": "n" * 128},
        url="https://h/" + "a" * 900,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    assert len(signed(largest, KEY)) <= MAX_DESIRED_BYTES


@given(st.binary(min_size=1, max_size=500), st.integers(1, 100))
def test_chunks_are_those_of_the_content(content: bytes, chunk_bytes: int) -> None:
    sha256, size, chunks = chunk_hashes(io.BytesIO(content), chunk_bytes)
    found = desired(sha256=sha256, size=size, chunk_bytes=chunk_bytes, chunks=chunks)
    assert sum(found.chunk_size(number) for number in range(len(chunks))) == len(content)


def test_topics_are_for_a_node_or_for_all_of_its_group() -> None:
    assert desired_topic("g", "n", "model", "m") == "headwater/g/desired/n/model/m"
    assert desired_filters("g", "n") == ("headwater/g/desired/n/+/+", "headwater/g/desired/*/+/+")
    assert desired().target.is_for("g", "n")
    assert desired(target={"group": "g", "node": "*"}).target.is_for("g", "other")
    assert not desired().target.is_for("g", "other")
    assert not desired().target.is_for("other", "n")


def test_keys_are_of_ed25519() -> None:
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public_key(pem, "it").public_bytes_raw() == KEY.public_key().public_bytes_raw()
    other = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="not a key of Ed25519"):
        public_key(other, "it")
    with pytest.raises(ConfigError, match="no public key"):
        public_key(b"nonsense", "it")


@pytest.mark.parametrize("state", [None, *UpdateState])
def test_news_are_read_as_they_were_told(state: UpdateState | None) -> None:
    news = UpdateNews("model", "a/b", 7, "2.0", "1.0", state, "überall")
    assert UpdateNews.from_metric(news.to_metric(1)) == news
    assert UpdateState.CONFIRMED.is_final
    assert not UpdateState.TRYING.is_final


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Update/model", "{}"),
        ("Health/model/m", "{}"),
        ("Update/model/m", "{}"),
        ("Update/model/m", "["),
        ("Update/model/m", 3.0),
        ("Update/model/m", '{"counter":1,"wanted":"1","running":null,"state":"lost","reason":null}'),
        ("Update/model/m", '{"counter":"1","wanted":"1","running":null,"state":null,"reason":null}'),
    ],
)
def test_what_is_no_news_is_refused(name: str, value: Any) -> None:
    datatype = DataType.STRING if isinstance(value, str) else DataType.DOUBLE
    with pytest.raises(CodecError):
        UpdateNews.from_metric(Metric(name, datatype, value, 1))
