"""Kafka records read by their place and sent again: the outside of `deadletter retry`."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, MessageSizeTooLargeError

from contract.errors import HeaderError, TopicError
from contract.records import RecordHeaders, record_key
from contract.topics import parse_topic
from stream.errors import FatalError
from stream.ingest.decode import KEPT_PAYLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka.consumer.fetcher import ConsumerRecord
    from kafka.producer.future import FutureRecordMetadata

    from stream.config import KafkaConfig, StreamConfig

RETRIES_HEADER: Final = "retries"
_READ_TIMEOUT_S: Final = 10.0
_SEND_TIMEOUT_S: Final = 30.0
# What Spark's options for Kafka are called here; of others that guard the connection we would rather know nothing.
_OPTIONS: Final = {
    "security.protocol": ("security_protocol",),
    "sasl.mechanism": ("sasl_mechanism",),
    "ssl.truststore.location": ("ssl_cafile",),
    # A keystore in PEM is key and certificate in one file.
    "ssl.keystore.location": ("ssl_certfile", "ssl_keyfile"),
}
_PASSED_OVER: Final = {"ssl.truststore.type", "ssl.keystore.type", "sasl.jaas.config"}
_LOGIN: Final = re.compile(r'\b(username|password)\s*=\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Again:
    """A record to be sent again; `value` is its payload where all of it is known, `headers` without the reason."""

    topic: str
    partition: int
    offset: int
    received_at_ms: int | None
    mqtt_topic: str | None
    value: bytes | None
    retries: int
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Unsent:
    """Why a record cannot be sent again."""

    reason: str


class Resender:
    """Reads records of Kafka, and sends them to the payload topic; raises FatalError where Kafka is not there."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        options = client_options(config.kafka)
        try:
            self._consumer = KafkaConsumer(**options, group_id=None, enable_auto_commit=False)
            self._producer = KafkaProducer(**options, acks="all", retries=5, max_request_size=64 << 20)
        except (KafkaError, ValueError, OSError) as exc:
            raise FatalError(f"Kafka at {', '.join(config.kafka.bootstrap_servers)} cannot be reached: {exc}") from exc

    def close(self) -> None:
        """Close both connections."""
        self._consumer.close()
        self._producer.close(timeout=_SEND_TIMEOUT_S)

    def again(self, wanted: Sequence[Again]) -> list[Again | Unsent]:
        """Each with its value and headers, from Kafka where it still is, else from what the letter has kept."""
        try:
            return [self._original(each) or _from_letter(each) for each in wanted]
        except KafkaError as exc:
            raise FatalError(f"Kafka: {exc}") from exc

    def send(self, records: Sequence[Again | Unsent]) -> list[tuple[int, int] | Unsent]:
        """Send records, and wait for Kafka's word: partition and offset of each."""
        try:
            sent = [each if isinstance(each, Unsent) else self._hand_over(each) for each in records]
            self._producer.flush(timeout=_SEND_TIMEOUT_S)
        except KafkaError as exc:
            raise FatalError(f"Kafka: {exc}") from exc
        return [each if isinstance(each, Unsent) else _outcome(each) for each in sent]

    def _hand_over(self, again: Again) -> FutureRecordMetadata | Unsent:
        headers = [*again.headers, (RETRIES_HEADER, str(again.retries).encode())]
        try:
            return self._producer.send(self._config.topics.payloads, again.value, again.key, headers)
        except MessageSizeTooLargeError as exc:
            return Unsent(f"Kafka does not take it: {exc}")

    def _original(self, again: Again) -> Again | Unsent | None:
        record = self._read(TopicPartition(again.topic, again.partition), again.offset)
        if record is None:
            return None
        headers = tuple((name, value) for name, value in record.headers if value is not None)
        try:
            told: RecordHeaders | None = RecordHeaders.from_kafka(headers)
        except HeaderError:
            told = None
        # The topic was deleted and made again: this is another record.
        if (told and told.received_at_ms) != again.received_at_ms:
            return None
        value = record.value or b""
        is_bridges = again.topic == self._config.topics.dead_letters
        if is_bridges and len(value) >= KEPT_PAYLOAD_BYTES:
            return Unsent("the bridge kept only the first 64 KiB of it")
        kept = tuple(pair for pair in headers if pair[0] not in {"reason", RETRIES_HEADER})
        return replace(again, value=value, key=record.key, headers=kept)

    def _read(self, partition: TopicPartition, offset: int) -> ConsumerRecord | None:
        if partition.partition not in (self._consumer.partitions_for_topic(partition.topic) or ()):
            return None
        first = self._consumer.beginning_offsets([partition])[partition]
        end = self._consumer.end_offsets([partition])[partition]
        if not first <= offset < end:
            return None
        self._consumer.assign([partition])
        self._consumer.seek(partition, offset)
        deadline_s = time.monotonic() + _READ_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for record in self._consumer.poll(timeout_ms=1000, max_records=1).get(partition, ()):
                return record if record.offset == offset else None
        raise FatalError(f"Kafka does not give record {partition.topic}/{partition.partition}/{offset}")


def _outcome(sent: FutureRecordMetadata) -> tuple[int, int] | Unsent:
    try:
        told = sent.get(timeout=_SEND_TIMEOUT_S)
    except KafkaError as exc:
        return Unsent(f"Kafka does not take it: {exc}")
    return told.partition, told.offset


def client_options(config: KafkaConfig) -> dict[str, Any]:
    """Spark's options for Kafka as kafka-python's; raises FatalError for one that guards and is not understood."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.bootstrap_servers),
        "bootstrap_timeout_ms": 10_000,
    }
    for name, value in config.options.items():
        plain = name.removeprefix("kafka.")
        if plain in _OPTIONS:
            options |= dict.fromkeys(_OPTIONS[plain], value)
        elif plain.startswith(("security.", "sasl.", "ssl.")) and plain not in _PASSED_OVER:
            raise FatalError(f"kafka.options {name}: not understood here; allowed are {', '.join(sorted(_OPTIONS))}")
        if plain == "sasl.jaas.config":
            login = {key: text.replace('\\"', '"') for key, text in _LOGIN.findall(value)}
            options |= {"sasl_plain_username": login.get("username"), "sasl_plain_password": login.get("password")}
    return options


def _from_letter(again: Again) -> Again | Unsent:
    if again.value is None or again.mqtt_topic is None or again.received_at_ms is None:
        return Unsent("Kafka no longer has it, and the letter does not hold all of it")
    try:
        topic = parse_topic(again.mqtt_topic)
    except TopicError as exc:
        return Unsent(f"Kafka no longer has it, and {exc}")
    headers = RecordHeaders(again.mqtt_topic, again.received_at_ms).to_kafka()
    return replace(again, key=record_key(topic.group, topic.node), headers=tuple(headers))
