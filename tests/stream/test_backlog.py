from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from kafka import KafkaProducer
from kafka.errors import KafkaConnectionError

from stream import backlog
from stream.backlog import Backlog
from stream.config import KafkaConfig, SparkConfig, StreamConfig

if TYPE_CHECKING:
    import pytest

    from stack import Kafka


def config(servers: str) -> StreamConfig:
    kafka = KafkaConfig(bootstrap_servers=(servers,))
    return StreamConfig(kafka=kafka, checkpoint_dir="unused", spark=SparkConfig(jars_dir=Path("unused")))


def test_what_waits_in_kafka_is_counted_now_and_then(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = f"waiting-{uuid4()}"
    kafka.create_topic(topic, partitions=2)
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
        for n in range(7):
            producer.send(topic, b"x", partition=int(n > 4))
        producer.flush(30)
    stored = {topic: {"0": 2, "1": 2}}
    with closing(Backlog(config(kafka.bootstrap_servers))) as waiting:
        assert waiting.records({}, None) is None, "nothing is known before the first batch"
        assert waiting.records(stored, None) == 3
        assert waiting.records({topic: {"0": 5}}, 3) == 3, "not yet asked again"
        monkeypatch.setattr(backlog, "_LOOK_EVERY_S", 0.0)
        waiting._look_at_s = 0.0
        assert waiting.records({topic: {"0": 5}}, 3) == 0


def test_a_kafka_that_is_away_too_leaves_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_options: object) -> None:
        raise KafkaConnectionError("away")

    monkeypatch.setattr(backlog, "KafkaConsumer", away)
    with closing(Backlog(config("127.0.0.1:9"))) as waiting:
        assert waiting.records({"t": {"0": 2}}, 7) == 7
