"""How far back Kafka's log goes."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.errors import FatalError
from stream.resend import client_options

if TYPE_CHECKING:
    from stream.config import StreamConfig


def whole_since_ms(config: StreamConfig) -> int:
    """Since when the log of the payloads is whole, UTC ms: 0 where nothing of it is gone yet. Raises FatalError."""
    topic = config.topics.payloads
    try:
        with closing(
            KafkaConsumer(**client_options(config.kafka), group_id=None, enable_auto_commit=False)
        ) as consumer:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            begins = consumer.beginning_offsets(partitions)
            cut = [partition for partition, offset in begins.items() if offset]
            firsts = consumer.offsets_for_times(dict.fromkeys(cut, 0)) if cut else {}
    except (KafkaError, OSError, ValueError) as exc:
        raise FatalError(f"Kafka does not say how far back its log goes: {exc}") from exc
    if not cut:
        return 0
    # Of a partition with nothing left, nobody can tell; it was written to before the others begin.
    return max((first.timestamp for first in firsts.values() if first is not None), default=time.time_ns() // 1_000_000)
