"""The query between a real Kafka and a real TimescaleDB, in the session's own Spark."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaProducer, TopicPartition

from contract.config import parse_config
from stack import wait_until
from stream.config import StreamConfig
from stream.errors import FatalError
from stream.ingest.writer import Writer
from stream.query import Ingest, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from stack import Kafka
    from stream.progress import Progress
    from tests.stream.conftest import Database

NOW = 1_700_000_000_000


class Query:
    """Stores what Kafka holds, on topics of its own, once per `run`."""

    def __init__(self, spark: SparkSession, kafka: Kafka, database: Database, directory: Path) -> None:
        self._spark, self._kafka, self._database = spark, kafka, database
        name = uuid.uuid4().hex[:8]
        self.payloads = f"{name}.payloads"
        topics = {"payloads": self.payloads, "dead_letters": f"{name}.deadletters"}
        for topic in topics.values():
            kafka.create_topic(topic)
        self.document: dict[str, Any] = {
            "kafka": {"bootstrap_servers": [kafka.bootstrap_servers], "max_offsets_per_trigger": 50},
            "topics": topics,
            "checkpoint_dir": str(directory / "checkpoint"),
            "spark": {"jars_dir": "as the session has it"},
        }

    def send(self, *records: Any) -> None:
        with closing(KafkaProducer(bootstrap_servers=self._kafka.bootstrap_servers, acks="all")) as producer:
            for record in records:
                producer.send(self.payloads, record.value, headers=list(record.headers))
            producer.flush(30)

    def run(self) -> None:
        with self._supervisor(threading.Event()) as supervisor:
            supervisor.run(once=True)

    @contextmanager
    def running(self) -> Iterator[Progress]:
        stop = threading.Event()
        with self._supervisor(stop) as supervisor, ThreadPoolExecutor(1) as pool:
            done = pool.submit(supervisor.run, once=False)
            try:
                yield supervisor._progress
            finally:
                stop.set()
                done.result(60)

    @contextmanager
    def _supervisor(self, stop: threading.Event) -> Iterator[Supervisor]:
        config = parse_config(self.document, StreamConfig, "test")
        with closing(Writer(self._database.writer, stop)) as writer:
            yield Supervisor(self._spark, Ingest(self._spark, config, writer), stop)


@pytest.fixture
def query(spark: SparkSession, kafka: Kafka, migrated: Database, tmp_path: Path) -> Query:
    return Query(spark, kafka, migrated, tmp_path)


def test_a_fresh_checkpoint_repeats_nothing(
    query: Query, migrated: Database, payload_record: Callable[..., Any]
) -> None:
    query.send(*(payload_record({"a": float(n)}, sampled_at_ms=NOW + n) for n in range(120)))
    query.run()
    assert migrated.one("select count(*) from reading") == 120
    query.document["checkpoint_dir"] += "-new"
    query.run()
    assert migrated.one("select count(*) from reading") == 120
    assert migrated.one("select sum(duplicate_rows) from ingest_batch") == 120
    assert migrated.one("select count(distinct query_id) from ingest_batch") == 2


def test_records_that_kafka_dropped_unread_end_it_with_advice(
    query: Query, kafka: Kafka, migrated: Database, payload_record: Callable[..., Any]
) -> None:
    query.send(*(payload_record({"a": float(n)}, sampled_at_ms=NOW + n) for n in range(3)))
    query.run()
    query.send(*(payload_record({"a": float(n)}, sampled_at_ms=NOW + n) for n in range(3, 6)))
    with kafka.admin() as admin:
        admin.delete_records({TopicPartition(query.payloads, 0): 5})
    with pytest.raises(FatalError, match=r"(?s)no longer has records that were not read.*fail_on_data_loss: false"):
        query.run()
    query.document["kafka"]["fail_on_data_loss"] = False
    query.run()
    assert migrated.rows("select value from reading order by sampled_at") == [(0.0,), (1.0,), (2.0,), (5.0,)]


def test_a_batch_of_payloads_that_grow_large_is_stored_in_pieces(
    query: Query, migrated: Database, payload_record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.query.MAX_BYTES_PER_TASK", 1)
    names = [f"m{n}" for n in range(30)]
    query.send(*(payload_record(dict.fromkeys(names, float(n)), sampled_at_ms=NOW + n) for n in range(5)))
    query.run()
    assert migrated.one("select count(*) from reading") == 150
    assert migrated.rows("select reading_rows, duplicate_rows, offsets from ingest_batch") == [
        (150, 0, {query.payloads: {"0": 5}})
    ]


def test_kill_9_of_kafka_is_told_once_and_outlived(
    query: Query, kafka: Kafka, migrated: Database, payload_record: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def stored(count: int) -> bool:
        return wait_until(lambda: migrated.one("select count(*) from reading") == count, timeout_s=60, poll_s=0.1)

    query.document["kafka"]["options"] = {"default.api.timeout.ms": "2000", "request.timeout.ms": "1000"}
    query.document["trigger_interval_s"] = 0.2
    caplog.set_level("INFO")
    query.send(payload_record({"a": 1.0}))
    with query.running() as progress:
        assert stored(1)
        kafka.kill()
        try:
            assert wait_until(lambda: progress.kafka == "away", timeout_s=60)
        finally:
            kafka.start()
        query.send(payload_record({"a": 2.0}, sampled_at_ms=NOW + 1))
        assert stored(2)
        assert wait_until(lambda: (progress.kafka, progress.state, progress.rows) == ("ok", "running", 2), timeout_s=30)
    assert migrated.one("select sum(duplicate_rows) from ingest_batch") == 0
    for words in ("the query failed, nothing is lost", "the query runs again"):
        assert caplog.text.count(words) == 1
