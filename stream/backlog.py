"""How many records wait in Kafka while Spark waits for the database."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.errors import FatalError
from stream.resend import client_options

if TYPE_CHECKING:
    from stream.config import StreamConfig
    from stream.ingest.batch import Offsets

_LOOK_EVERY_S: Final = 10.0
# It is asked by the loop that hears the stop.
_TIMEOUT_MS: Final = 3000


class Backlog:
    """Asks Kafka now and then where its partitions end; opens its connection when first asked."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self._consumer: KafkaConsumer | None = None
        self._look_at_s = 0.0

    def records(self, stored: Offsets, last: int | None) -> int | None:
        """The records of the fullest partition past what is stored; `last` where it is not time, or Kafka away, too."""
        if time.monotonic() < self._look_at_s or not stored:
            return last
        self._look_at_s = time.monotonic() + _LOOK_EVERY_S
        next_offsets = {
            TopicPartition(topic, int(number)): offset
            for topic, partitions in stored.items()
            for number, offset in partitions.items()
        }
        try:
            ends: dict[TopicPartition, int] = self._open().end_offsets(list(next_offsets))
        except (KafkaError, FatalError, OSError, ValueError):
            # A constructor that fails leaves open sockets in reference cycles.
            gc.collect()
            return last
        return max(max(0, end - next_offsets[partition]) for partition, end in ends.items())

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            times = {"bootstrap_timeout_ms": _TIMEOUT_MS, "request_timeout_ms": _TIMEOUT_MS}
            self._consumer = KafkaConsumer(
                **(client_options(self._config.kafka) | times), group_id=None, enable_auto_commit=False
            )
        return self._consumer
