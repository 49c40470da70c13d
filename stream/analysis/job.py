"""The query of the analysis: blocks, the stateful operator, and the findings into the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.analysis.blocks import blocks
from stream.analysis.findings import Findings
from stream.analysis.gone import Gone
from stream.analysis.operator import found
from stream.ingest.sink import BatchKey
from stream.query import query_id, read_kafka
from stream.workers import own_workers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from stream.analysis.config import AnalysisConfig
    from stream.analysis.span import Span
    from stream.analysis.writer import AnalysisWriter
    from stream.config import StreamConfig
    from stream.errors import FatalError

# Only RocksDB keeps state of several values; what changed is written as a log, and not as the whole of its files.
_SETTINGS: Final = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    # Outside of the JVM's heap, and by default without a bound: 64 MB for each partition before any of it is written.
    "spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage": "true",
    "spark.sql.streaming.stateStore.rocksdb.maxMemoryUsageMB": "96",
    "spark.sql.streaming.stateStore.rocksdb.writeBufferSizeMB": "4",
    # Each keeps the parts of the state that changed.
    "spark.sql.streaming.minBatchesToRetain": "5",
}


class Analysis:
    """Readings to bars, trends and anomalies."""

    name = "analysis"

    def __init__(
        self,
        spark: SparkSession,
        config: StreamConfig,
        settings: AnalysisConfig,
        writer: AnalysisWriter,
        span: Span | None = None,
    ) -> None:
        """With a span, only what is of it is stored, and its checkpoint is `checkpoint_dir` of a replay."""
        # Its settings are those of a session of its own, in the same Spark.
        self._spark = spark.newSession()
        for name, value in (_SETTINGS | {"spark.sql.shuffle.partitions": str(settings.partitions)}).items():
            self._spark.conf.set(name, value)
        self._config = config
        self._settings = settings
        self._writer = writer
        self.progress = writer.progress
        self._span = span
        self.checkpoint_dir = checkpoint_dir(config) if span is None else f"{checkpoint_dir(config)}-replay"
        self.trigger_interval_s = settings.trigger_interval_s
        # What a replay finds out is not of now.
        self._gone = Gone(writer.dsn, settings.gone_after_s) if span is None else None

    @property
    def failure(self) -> FatalError | None:
        """Why it cannot go on."""
        return self._writer.failure

    def tell(self) -> None:
        """As `Query.tell`."""
        self._writer.tell()
        if self._gone is not None:
            self._gone.look(self.progress)

    def rows(self) -> DataFrame:
        """The findings of each shard that had readings."""
        topics = self._config.topics
        limit = self._settings.max_offsets_per_trigger
        from_ms = 0 if self._span is None else max(self._span.from_ms - self._span.warm_up_ms, 0)
        records = read_kafka(self._spark, self._config, (topics.payloads,), limit, from_ms)
        with own_workers(self._spark, "analysis"):
            return found(blocks(records, self._config.limits.limits(), topics.dead_letters), self._settings)

    def write(self, rows: DataFrame, batch_id: int) -> None:
        """Store a micro-batch's findings."""
        found = Findings.together([Findings.from_bytes(part) for part in rows.toArrow()["findings"].to_pylist()])
        if self._span is not None:
            found = self._span.of(found)
        self._writer.write(BatchKey(query_id(rows), batch_id), found)


def forget_checkpoint(spark: SparkSession, place: str) -> None:
    """Delete a checkpoint, wherever Spark keeps it."""
    hadoop = spark.sparkContext._jvm.org.apache.hadoop.fs.Path(place)  # type: ignore[union-attr]  # noqa: SLF001 - Spark has no other door to its file systems
    hadoop.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()).delete(hadoop, True)  # noqa: FBT003, SLF001 - as above


def checkpoint_dir(config: StreamConfig) -> str:
    """Where the analysis keeps its progress and its state."""
    return f"{config.checkpoint_dir.rstrip('/')}-analysis"
