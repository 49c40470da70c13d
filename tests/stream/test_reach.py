"""How far back a real Kafka's log goes."""

from __future__ import annotations

import uuid
from contextlib import closing
from typing import TYPE_CHECKING

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from contract.config import parse_config
from stream.config import StreamConfig
from stream.reach import whole_since_ms

if TYPE_CHECKING:
    from stack import Kafka

NOW = 1_700_000_000_000


def test_a_log_is_whole_since_the_first_record_of_the_partition_that_lost_most(kafka: Kafka) -> None:
    topic = f"{uuid.uuid4().hex[:8]}.payloads"
    kafka.create_topic(topic, partitions=3)
    document = {
        "kafka": {"bootstrap_servers": [kafka.bootstrap_servers]},
        "topics": {"payloads": topic},
        "checkpoint_dir": "nowhere",
        "spark": {"jars_dir": "nowhere"},
    }
    config = parse_config(document, StreamConfig, "test")
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all")) as producer:
        for n in range(10):
            for partition in range(3):
                producer.send(topic, b"x", partition=partition, timestamp_ms=NOW + n * 1000 + partition)
        producer.flush(30)
    assert whole_since_ms(config) == 0
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)) as admin:
        admin.delete_records({TopicPartition(topic, 0): 4, TopicPartition(topic, 1): 7})
    assert whole_since_ms(config) == NOW + 7001
