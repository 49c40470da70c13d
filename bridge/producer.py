"""The producer to Kafka, and what its errors mean to us."""

from __future__ import annotations

import gc
from enum import Enum
from typing import TYPE_CHECKING, Final

import kafka.errors as kafka_errors
from kafka import KafkaProducer

from bridge.cluster import MAX_REQUEST_TIMEOUT_S, connection_options, record_limits
from bridge.errors import BridgeError, KafkaNotReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.config import KafkaConfig
    from bridge.triage import Letter

_METADATA_TIMEOUT_S: Final = 3
_BATCH_BYTES: Final = 256 * 1024
# Room beside the payload for key, headers and the batch's own fields: an MQTT topic may have 64 KiB, twice in a record.
RECORD_OVERHEAD_BYTES: Final = 192 * 1024
# What a batch of one record has beside its key, value and headers, and what lz4 adds where it can save nothing.
_FRAME_BYTES: Final = 1024
_LZ4_EXPANSION: Final = 255


class RecordTooLarge(Exception):  # noqa: N818 - the record's state; named as Kafka names it
    """A record that its topic does not take, found before it was given to the producer."""


class Meaning(Enum):
    """What an error of a send asks of us."""

    REFUSED = "the record is at fault: set it aside"
    AGAIN = "send again, by a new producer"
    FATAL = "nobody but the operator can mend it"


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


def meaning(error: BaseException) -> Meaning:
    """What to do about a failed send.

    Time-outs, a lost leader, and all that idempotence can stumble over (an epoch bump fails what was in flight, a
    broker that forgot our producer id) mean AGAIN: the record may then be there twice, which the database's key drops.
    So does the broker's own "too large": kafka-python fails every record in flight with it, the innocent too. It can
    come only when a topic's limit was lowered, and the new producer knows the new limit.
    """
    if isinstance(error, RecordTooLarge):
        return Meaning.REFUSED
    return Meaning.FATAL if isinstance(error, _FATAL) else Meaning.AGAIN


class Producer:
    """An idempotent producer to existing topics.

    Opening blocks for some seconds at most; raises KafkaNotReady where another try may help, else BridgeError.
    """

    def __init__(self, config: KafkaConfig, max_payload_bytes: int) -> None:
        self._topics = config.topics
        wanted_bytes = max_payload_bytes + RECORD_OVERHEAD_BYTES
        try:
            self._producer = KafkaProducer(
                **connection_options(config),
                enable_idempotence=True,
                acks="all",
                compression_type="lz4",
                linger_ms=config.linger_ms,
                batch_size=_BATCH_BYTES,
                # `send` knows each topic's own limit.
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
            self._limits = record_limits(config, wanted_bytes)
            for topic in self._limits:
                self._producer.partitions_for(topic)  # so that no send has to wait for it
        except kafka_errors.KafkaError as exc:
            self.close(0)
            raise _translated(exc, "its topics") from exc
        except BridgeError:
            self.close(0)
            raise

    def send(self, letter: Letter, done: Callable[[BaseException | None], None]) -> Exception | None:
        """Send a letter; `done` hears in another thread of success (None) or the error.

        An error that is found at once is the result, and `done` hears nothing.
        """
        topic = self._topics.dead_letters if letter.is_dead else self._topics.payloads
        headers = letter.headers.to_kafka()
        size = len(letter.key) + len(letter.value) + sum(len(name) + len(value) for name, value in headers)
        if size + _FRAME_BYTES + size // _LZ4_EXPANSION > self._limits[topic]:
            return RecordTooLarge(f"topic {topic} takes records of {self._limits[topic]} bytes")
        try:
            future = self._producer.send(topic, letter.value, letter.key, headers)
        except (kafka_errors.KafkaError, ValueError) as exc:  # ValueError: the topic has gone meanwhile
            return exc
        future.add_callback(lambda _metadata: done(None))
        future.add_errback(done)
        return None

    def close(self, timeout_s: float) -> None:
        """Send what waits, for so long at most, and join the sender thread."""
        try:
            self._producer.close(timeout=timeout_s)
        except kafka_errors.KafkaTimeoutError:
            # close() gives up while records wait, and leaves its thread running: only the sender itself can drop them.
            sender = self._producer._sender  # noqa: SLF001 - see above
            sender.force_close()
            sender.join(MAX_REQUEST_TIMEOUT_S)
            self._producer.close(timeout=0)


def _translated(error: Exception, what: str) -> BridgeError:
    name = type(error).__name__
    if isinstance(error, ValueError) or meaning(error) is Meaning.FATAL:
        return BridgeError(f"Kafka: {what}: {name}: {error}")
    return KafkaNotReady(f"{what} cannot be reached ({name})")
