"""The Kafka side: kafka-python's producer, and what its errors mean to us."""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import kafka.errors as kafka_errors
from kafka import KafkaAdminClient, KafkaProducer

from bridge.errors import BridgeError, KafkaNotReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.config import KafkaConfig
    from bridge.triage import Letter

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S: Final = 10
_BOOTSTRAP_TIMEOUT_S: Final = 5
_METADATA_TIMEOUT_S: Final = 3
_BATCH_BYTES: Final = 256 * 1024
# Room beside the payload for key, headers and the batch's own fields: a topic name may have 64 KiB.
RECORD_OVERHEAD_BYTES: Final = 128 * 1024


class Meaning(Enum):
    """What an error of kafka-python asks of us."""

    REFUSED = "the record is at fault: set it aside"
    AGAIN = "send again, by a new producer"
    FATAL = "nobody but the operator can mend it"


_REFUSED: Final = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
    kafka_errors.InvalidTimestampError,
)
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
    kafka_errors.PolicyViolationError,
)


def meaning(error: BaseException) -> Meaning:
    """What to do about a failed send.

    Time-outs, a lost leader, and all that idempotence can stumble over (an epoch bump fails what was in flight, a
    broker that forgot our producer id) mean AGAIN: the record may then be there twice, which the database's key drops.
    """
    if isinstance(error, _REFUSED):
        return Meaning.REFUSED
    return Meaning.FATAL if isinstance(error, _FATAL) else Meaning.AGAIN


class Producer:
    """An idempotent producer to existing topics.

    Opening blocks for a few seconds at most; raises KafkaNotReady where another try may help, else BridgeError.
    """

    def __init__(self, config: KafkaConfig, max_payload_bytes: int) -> None:
        self._config = config
        self._max_record_bytes = max_payload_bytes + RECORD_OVERHEAD_BYTES
        try:
            self._producer = KafkaProducer(
                **_connection(config),
                enable_idempotence=True,
                acks="all",
                compression_type="lz4",
                linger_ms=config.linger_ms,
                batch_size=_BATCH_BYTES,
                max_request_size=self._max_record_bytes,
                max_block_ms=_METADATA_TIMEOUT_S * 1000,
                delivery_timeout_ms=int(config.delivery_timeout_s * 1000),
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except (kafka_errors.KafkaError, OSError, ValueError) as exc:
            raise _translated(exc, ", ".join(config.bootstrap_servers)) from exc
        try:
            self._require_topics()
        except kafka_errors.KafkaError as exc:
            self.close(0)
            raise _translated(exc, "its topics") from exc
        except BridgeError:
            self.close(0)
            raise

    def send(self, letter: Letter, done: Callable[[BaseException | None], None]) -> None:
        """Send a letter; `done` hears in another thread, or in this one at once, of success (None) or the error."""
        topics = self._config.topics
        topic = topics.dead_letters if letter.is_dead else topics.payloads
        try:
            future = self._producer.send(topic, letter.value, letter.key, letter.headers.to_kafka())
        except kafka_errors.KafkaError as exc:
            done(exc)
            return
        future.add_callback(lambda _metadata: done(None))
        future.add_errback(done)

    def close(self, timeout_s: float) -> None:
        """Send what waits, for so long at most, and join the sender thread."""
        try:
            self._producer.close(timeout=timeout_s)
        except kafka_errors.KafkaTimeoutError:
            # close() gives up while records wait, and leaves its thread running: only the sender itself can drop them.
            sender = self._producer._sender  # noqa: SLF001 - see above
            sender.force_close()
            sender.join(_REQUEST_TIMEOUT_S)
            self._producer.close(timeout=0)

    def _require_topics(self) -> None:
        topics = self._config.topics
        names = (topics.payloads, topics.dead_letters)
        admin = KafkaAdminClient(**_connection(self._config))
        try:
            missing = sorted(set(names) - set(admin.list_topics()))
            if missing and not topics.create:
                raise KafkaNotReady(f"no topic {', '.join(missing)}: create it, or set kafka.topics.create")
            if missing:
                self._create(admin, missing)
        finally:
            admin.close()
        for name in names:
            self._producer.partitions_for(name)  # so that no send has to wait for it

    def _create(self, admin: KafkaAdminClient, names: list[str]) -> None:
        topics = self._config.topics
        settings = {
            "num_partitions": topics.partitions,
            "replication_factor": topics.replication_factor,
            "configs": {
                "retention.ms": str(int(topics.retention_h * 3_600_000)),
                "max.message.bytes": str(self._max_record_bytes),
            },
        }
        try:
            admin.create_topics(dict.fromkeys(names, settings), wait_for_metadata=True)
            logger.info("Kafka: created %s, %d partitions each", " and ".join(names), topics.partitions)
        except kafka_errors.TopicAlreadyExistsError:
            logger.info("Kafka: %s: made by another meanwhile", " or ".join(names))


def _translated(error: Exception, what: str) -> BridgeError:
    name = type(error).__name__
    if isinstance(error, ValueError) or meaning(error) is Meaning.FATAL:
        return BridgeError(f"Kafka: {what}: {name}: {error}")
    return KafkaNotReady(f"{what} cannot be reached ({name})")


def _connection(config: KafkaConfig) -> dict[str, Any]:
    """What kafka-python's clients share."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.bootstrap_servers),
        "client_id": "headwater-bridge",
        "bootstrap_timeout_ms": _BOOTSTRAP_TIMEOUT_S * 1000,
        "request_timeout_ms": _REQUEST_TIMEOUT_S * 1000,
        "reconnect_backoff_max_ms": 2000,
        "security_protocol": config.security_protocol,
    }
    if config.security_protocol.endswith("SSL"):
        options["ssl_context"] = config.tls.context()
    if config.sasl_mechanism is not None:
        options |= {
            "sasl_mechanism": config.sasl_mechanism,
            "sasl_plain_username": config.username,
            "sasl_plain_password": config.password(),
        }
    return options
