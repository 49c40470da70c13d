"""The producer to Kafka, and what its errors mean to us."""

from __future__ import annotations

import gc
import time
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

import kafka.errors as kafka_errors
from kafka import KafkaProducer, TopicPartition
from kafka.partitioner.default import murmur2

from bridge.cluster import connection_options, record_limits
from bridge.errors import BridgeError, KafkaNotReady
from bridge.handover import drop, hand_over, never_split, wake
from bridge.records import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, RecordBatch, packed_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridge.config import KafkaConfig
    from bridge.triage import Letter

_METADATA_TIMEOUT_S: Final = 3
_BATCH_BYTES: Final = 512 * 1024
# Room beside the payload for key, headers and the batch's own fields: an MQTT topic may have 64 KiB, twice in a record.
_ROOM_FOR_NAMES_BYTES: Final = 192 * 1024


class RecordTooLarge(Exception):  # noqa: N818 - the record's state; named as Kafka names it
    """A record that its topic does not take, found before it was given to the producer."""


_FATAL: Final = (
    kafka_errors.AuthorizationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.SecurityDisabledError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.UnsupportedCodecError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.InvalidTopicError,
    kafka_errors.InvalidRequiredAcksError,
    kafka_errors.InvalidRecordError,
    # Our clock is far off, so it is not this record's fault: the next would be refused as well.
    kafka_errors.InvalidTimestampError,
    kafka_errors.PolicyViolationError,
)


def is_fatal(error: BaseException) -> bool:
    """Whether nobody but the operator can mend what a failed send says; else it is worth a new producer.

    Time-outs, a lost leader, and all that idempotence can stumble over (an epoch bump fails what was in flight, a
    broker that forgot our producer id) are no more than that: the record may then be there twice, which the database's
    key drops. So is the broker's own "too large", of a whole batch, the innocent in it too: it can come only when a
    topic's limit was lowered, and the new producer knows the new limit.
    """
    return isinstance(error, _FATAL)


class Batch:
    """Records of one partition that wait for company, at the time of the first; `numbers` are the caller's for them."""

    __slots__ = ("numbers", "records")

    def __init__(self) -> None:
        self.records = RecordBatch(time.time_ns() // 1_000_000)
        self.numbers: list[int] = []


class Lane:
    """A topic: its partitions, and the largest batch that it takes."""

    __slots__ = ("max_bytes", "places")

    def __init__(self, topic: str, partitions: Iterable[int], max_bytes: int) -> None:
        self.places = [TopicPartition(topic, number) for number in sorted(partitions)]
        self.max_bytes = max_bytes

    def place(self, key: bytes) -> TopicPartition:
        """The partition of a key: where Kafka's own clients put it, too."""
        return self.places[_hash(key) % len(self.places)]


@lru_cache(maxsize=16_384)
def _hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


class Producer:
    """An idempotent producer to existing topics, with the partitions that they have when it is opened.

    Opening blocks for some seconds at most; raises KafkaNotReady where another try may help, else BridgeError.
    `done(numbers, error)` hears in another thread what became of the letters of these numbers; None: Kafka has them.
    """

    def __init__(
        self, config: KafkaConfig, max_payload_bytes: int, done: Callable[[list[int], BaseException | None], None]
    ) -> None:
        self._done = done
        self._waiting: dict[TopicPartition, Batch] = {}
        wanted_bytes = max_payload_bytes + _ROOM_FOR_NAMES_BYTES
        try:
            self._producer = KafkaProducer(
                **connection_options(config),
                enable_idempotence=True,
                acks="all",
                # A batch is full when it is handed over, and `send` knows each topic's own limit.
                linger_ms=0,
                max_request_size=max(wanted_bytes, 2 * _BATCH_BYTES),
                max_block_ms=_METADATA_TIMEOUT_S * 1000,
                delivery_timeout_ms=int(config.delivery_timeout_s * 1000),
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except (kafka_errors.KafkaError, OSError, ValueError) as exc:
            # A constructor that fails leaves open sockets in reference cycles, eight at a time.
            gc.collect()
            raise _translated(exc, ", ".join(config.bootstrap_servers)) from exc
        try:
            never_split(self._producer)
            limits = record_limits(config, wanted_bytes)
            self._payloads, self._dead_letters = (
                Lane(topic, self._producer.partitions_for(topic), limits[topic])
                for topic in (config.topics.payloads, config.topics.dead_letters)
            )
        except kafka_errors.KafkaError as exc:
            self.close()
            raise _translated(exc, "its topics") from exc
        except BridgeError:
            self.close()
            raise

    def send(self, number: int, letter: Letter) -> Exception | None:
        """Take a letter; it waits for company until its batch is full, or for `flush`.

        An error that is found at once is the result, and `done` hears nothing of it.
        """
        lane = self._payloads if letter.reason is None else self._dead_letters
        key, value, headers = letter.route.key, letter.value, packed_headers(letter)
        size = len(key) + len(value) + len(headers) + RECORD_OVERHEAD_BYTES
        if size + BATCH_OVERHEAD_BYTES > lane.max_bytes:
            return RecordTooLarge(f"topic {lane.places[0].topic} takes records of {lane.max_bytes} bytes")
        place = lane.place(key)
        batch = self._waiting.get(place)
        if batch is not None and batch.records.size_bytes + size > min(lane.max_bytes, _BATCH_BYTES):
            if (error := self.flush()) is not None:
                return error
            batch = None
        if batch is None:
            batch = self._waiting[place] = Batch()
        batch.records.append(key, value, headers)
        batch.numbers.append(number)
        return None

    def flush(self) -> Exception | None:
        """Send what waits; an error says that this producer sends no more."""
        waiting, self._waiting = self._waiting, {}
        try:
            for place, batch in waiting.items():
                hand_over(self._producer, place, batch.records, partial(self._done, batch.numbers))
            if waiting:
                wake(self._producer)
        except (kafka_errors.IllegalStateError, OSError) as exc:  # it is closed
            return exc
        return None

    def close(self) -> None:
        """Drop what waits, and join the sender's thread; `done` hears of all that was flushed."""
        # close() gives up while records wait, and leaves the thread running: only the sender itself can drop them.
        with suppress(kafka_errors.KafkaTimeoutError):
            self._producer.close(timeout=0)
        drop(self._producer)


def _translated(error: Exception, what: str) -> BridgeError:
    name = type(error).__name__
    if isinstance(error, ValueError) or is_fatal(error):
        return BridgeError(f"Kafka: {what}: {name}: {error}")
    return KafkaNotReady(f"{what} cannot be reached ({name})")
