"""The query of the analysis: blocks, the stateful operator, and the findings into the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.analysis.blocks import blocks
from stream.analysis.findings import Findings
from stream.analysis.operator import found
from stream.ingest.sink import BatchKey
from stream.query import query_id, read_kafka

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from stream.analysis.config import AnalysisConfig
    from stream.analysis.writer import AnalysisWriter
    from stream.config import StreamConfig
    from stream.errors import FatalError

# Only RocksDB keeps state of several values; what changed is written as a log, and not as the whole of its files.
_SETTINGS: Final = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    # Each keeps the parts of the state that changed.
    "spark.sql.streaming.minBatchesToRetain": "5",
}


class Analysis:
    """Readings to bars, trends and anomalies."""

    name = "analysis"

    def __init__(
        self, spark: SparkSession, config: StreamConfig, settings: AnalysisConfig, writer: AnalysisWriter
    ) -> None:
        # Its settings are those of a session of its own, in the same Spark.
        self._spark = spark.newSession()
        for name, value in (_SETTINGS | {"spark.sql.shuffle.partitions": str(settings.partitions)}).items():
            self._spark.conf.set(name, value)
        self._config = config
        self._settings = settings
        self._writer = writer
        self.progress = writer.progress
        self.checkpoint_dir = checkpoint_dir(config)
        self.trigger_interval_s = settings.trigger_interval_s
        self.tell = writer.tell

    @property
    def failure(self) -> FatalError | None:
        """Why it cannot go on."""
        return self._writer.failure

    def rows(self) -> DataFrame:
        """The findings of each shard that had readings."""
        topics = self._config.topics
        records = read_kafka(self._spark, self._config, (topics.payloads,), self._settings.max_offsets_per_trigger)
        return found(blocks(records, self._config.limits.limits(), topics.dead_letters), self._settings)

    def write(self, rows: DataFrame, batch_id: int) -> None:
        """Store a micro-batch's findings."""
        parts = [Findings.from_bytes(part) for part in rows.toArrow()["findings"].to_pylist()]
        self._writer.write(BatchKey(query_id(rows), batch_id), parts)


def checkpoint_dir(config: StreamConfig) -> str:
    """Where the analysis keeps its progress and its state."""
    return f"{config.checkpoint_dir.rstrip('/')}-analysis"
