"""The analysis between a real Kafka and a real TimescaleDB, in the session's own Spark."""

from __future__ import annotations

import threading
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from kafka import KafkaProducer
from pyspark.errors import PySparkException

from contract.config import parse_config
from contract.records import record_key
from stream.analysis import writer as analysis_writer
from stream.analysis.blocks import KEYS
from stream.analysis.config import AnalysisConfig
from stream.analysis.job import Analysis
from stream.analysis.writer import AnalysisWriter
from stream.config import StreamConfig
from stream.errors import FatalError
from stream.progress import Progress
from stream.query import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from stack import Kafka
    from tests.stream.conftest import Database

NOW = 1_700_000_000_000
TABLES = {
    "bar": "select metric, width_s, starts_at, open, high, low, close, volume, quotes, is_final from bar",
    "trend": "select metric, at, level, slope_per_s, slope_se, volatility, regime from trend",
    "late_reading": "select metric, bucket_at, readings from late_reading",
}


class Run:
    """The analysis on a topic of its own, once per `run`."""

    def __init__(self, spark: SparkSession, kafka: Kafka, database: Database, directory: Path) -> None:
        self._spark, self._kafka, self.database = spark, kafka, database
        name = uuid.uuid4().hex[:8]
        self.payloads = f"{name}.payloads"
        kafka.create_topic(self.payloads, partitions=2)
        self.document: dict[str, Any] = {
            "kafka": {"bootstrap_servers": [kafka.bootstrap_servers]},
            "topics": {"payloads": self.payloads},
            "checkpoint_dir": str(directory / "checkpoint"),
            "analysis": {
                "max_offsets_per_trigger": 50,
                "step_s": 5,
                "bars": {"widths_s": [10, 60], "late_after_s": 30},
            },
            "spark": {"jars_dir": "as the session has it"},
        }

    def send(self, *records: Any) -> None:
        with closing(KafkaProducer(bootstrap_servers=self._kafka.bootstrap_servers, acks="all")) as producer:
            for record in records:
                node = dict(record.headers)["topic"].decode().split("/")[3]
                producer.send(self.payloads, record.value, record_key("g", node), headers=list(record.headers))
            producer.flush(30)

    def run(self) -> None:
        self.supervisor(threading.Event()).run(once=True)
        self.writer.close()

    def supervisor(self, stop: threading.Event) -> Supervisor:
        config = parse_config(self.document, StreamConfig, "test")
        self.writer = AnalysisWriter(self.database.writer, self.payloads, stop, Progress())
        query = Analysis(self._spark, config, config.analysis or AnalysisConfig(), self.writer)
        return Supervisor(self._spark, query, stop)

    def tables(self) -> dict[str, list[Any]]:
        columns = "group_id, node_id, device_id"
        return {
            name: sorted(
                map(
                    str,
                    self.database.rows(
                        f"{statement.replace('select', f'select {columns},')} join series using (series_id)"
                    ),
                )
            )
            for name, statement in TABLES.items()
        }


@pytest.fixture
def job(spark: SparkSession, kafka: Kafka, migrated: Database, tmp_path: Path) -> Run:
    return Run(spark, kafka, migrated, tmp_path)


@pytest.fixture(scope="session")
def market(payload_record: Callable[..., Any]) -> list[Any]:
    """Three nodes' records of two and a half minutes, a price and its volume among them; some come a minute late."""
    rng = np.random.default_rng(4)
    price = 100 + rng.normal(size=150).cumsum()
    records = []
    for n in range(150):
        at_ms = NOW + n * 1000 - (60_000 if n % 50 == 49 else 0)
        values = {"AB/price": float(price[n]), "AB/volume": float(1000 + 3 * n), "level": float(n)}
        records += [payload_record(values, sampled_at_ms=at_ms, received_at_ms=NOW + n * 1000, node=f"n{n % 3}")]
    return records


def test_a_batch_that_fails_after_its_commit_and_a_second_query_leave_the_tables_as_they_were(
    job: Run, market: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job.send(*market)
    job.run()
    undisturbed = job.tables()
    assert {name: bool(rows) for name, rows in undisturbed.items()} == dict.fromkeys(TABLES, True)
    assert job.database.one("select count(*) from analysis_batch") >= 3
    assert job.database.one("select sum(readings) from analysis_batch") == 3 * len(market)

    store, calls = analysis_writer.store, []

    def failing(*arguments: Any) -> Any:
        done = store(*arguments)
        calls.append(done)
        if len(calls) == 2:
            raise RuntimeError("the driver was killed after this commit")
        return done

    monkeypatch.setattr(analysis_writer, "store", failing)
    monkeypatch.setattr("stream.query._FIRST_DELAY_S", 0.1)
    job.document["checkpoint_dir"] += "-new"
    job.run()
    assert calls[1] is not None
    assert calls[2] is None, "the batch came again, and was found in the ledger"
    assert job.tables() == undisturbed


def test_shards_spread_evenly_over_tasks(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(key,) for key in KEYS], "shard int").selectExpr("pmod(hash(shard), 8)").collect()
    assert [row[0] for row in rows] == list(range(8))


def test_what_is_fatal_in_a_worker_is_fatal_and_keeps_its_words(spark: SparkSession, job: Run) -> None:
    def refuse(_batches: Any) -> Any:
        raise FatalError("the state is of another format: delete the checkpoint")

    with pytest.raises(PySparkException) as caught:
        spark.range(1).mapInArrow(refuse, "id long").collect()
    supervisor = job.supervisor(threading.Event())
    with pytest.raises(FatalError, match=r"^the state is of another format: delete the checkpoint$"):
        supervisor._raise_fatal(str(caught.value))
