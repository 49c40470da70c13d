"""The streaming queries, each started again from its checkpoint for as long as Kafka takes to come back."""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from py4j.protocol import Py4JError  # type: ignore[import-untyped]  # py4j publishes no types
from pyspark.errors import PySparkException, StreamingQueryException

from stream.backlog import Backlog
from stream.errors import FatalError
from stream.ingest.arriving import MicroBatches
from stream.ingest.sink import BatchKey
from stream.ingest.transform import MAX_BYTES_PER_TASK, decoded

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from stream.config import StreamConfig
    from stream.ingest.writer import Writer
    from stream.progress import Progress

logger = logging.getLogger(__name__)

_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 15.0
_POLL_S: Final = 0.25
_STOP_POLL_S: Final = 0.01
_LOOK_EVERY_S: Final = 2.0
# What a query says of itself when it has done all there was to do.
_IDLE: Final = {"Waiting for next trigger", "Waiting for data to arrive"}
# The first is how the driver says it, the second how an executor does.
_DATA_LOSS: Final = ("KAFKA_DATA_LOSS", "Some data may have been lost")
_EXCEPTION: Final = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)*([\w$]+(?:Exception|Error): .+)$", re.MULTILINE)

# A FatalError that was raised in a worker.
_FATAL: Final = re.compile(r"^stream\.errors\.FatalError: (.+)$", re.MULTILINE)

# Kafka's clients wait for minutes by default; we would rather say that it is away, and try again.
_CLIENT_OPTIONS: Final = {
    "default.api.timeout.ms": "20000",
    "request.timeout.ms": "15000",
    "reconnect.backoff.max.ms": "2000",
    # After each poll Spark asks where the partition ends. At its end the answer waits behind the fetch that the client
    # has sent ahead, half a second by default, in every micro-batch that catches up.
    "fetch.max.wait.ms": "10",
    # And few polls: a partition's share of a micro-batch in one or two.
    "max.partition.fetch.bytes": str(2 << 20),
    "max.poll.records": "5000",
}


# Of a full micro-batch: while the readings of some are stored others decode, however unevenly nodes, and with them
# records, lie in Kafka's partitions.
_TASKS: Final = 16


class Query(Protocol):
    """What Spark runs: Kafka's records on their way to the database."""

    name: str
    progress: Progress
    checkpoint_dir: str
    trigger_interval_s: float

    @property
    def failure(self) -> FatalError | None:
        """Why it cannot go on; Spark passes exceptions on as text only."""

    def rows(self) -> DataFrame:
        """The streaming DataFrame whose micro-batches are written."""

    def write(self, rows: DataFrame, batch_id: int) -> None:
        """Store a micro-batch."""

    def tell(self) -> None:
        """Log what there is to tell of the last minute."""


class Ingest:
    """Readings, texts and all else that records hold, into the tables."""

    name = "ingest"

    def __init__(self, spark: SparkSession, config: StreamConfig, writer: Writer) -> None:
        self._spark = spark
        self._config = config
        self._writer = writer
        self.progress = writer.progress
        self.checkpoint_dir = config.checkpoint_dir
        self.trigger_interval_s = config.trigger_interval_s
        self._backlog = Backlog(config)
        limits, dead_letters = config.limits.limits(), config.topics.dead_letters
        self._batches = MicroBatches(lambda records: decoded(records, limits, dead_letters, MAX_BYTES_PER_TASK))

    @property
    def failure(self) -> FatalError | None:
        """As `Query.failure`."""
        return self._writer.failure

    def tell(self) -> None:
        """As `Query.tell`; Spark looks at Kafka between batches only, and none ends while the database is away."""
        if self.progress.database == "away":
            self.progress.lag = self._backlog.records(self._writer.stored, self.progress.lag)
        self._writer.tell()

    def close(self) -> None:
        """Close what was opened to tell."""
        self._backlog.close()

    def rows(self) -> DataFrame:
        """Kafka's own columns: a batch is decoded as it is written."""
        topics = self._config.topics
        most = self._config.kafka.max_offsets_per_trigger
        return read_kafka(
            self._spark, self._config, (topics.payloads, topics.dead_letters), most, in_task=-(-most // _TASKS)
        )

    def write(self, rows: DataFrame, batch_id: int) -> None:
        """Decode and store a micro-batch, in one piece or several."""
        for batch in self._batches.pieces(rows):
            self._writer.write(BatchKey(query_id(rows), batch_id), batch)


def query_id(rows: DataFrame) -> UUID:
    """The id of the query that a micro-batch is of."""
    found = rows.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
    assert found is not None  # Spark sets it around every batch
    return UUID(found)


class Supervisor:
    """Keeps a query running until it is told to stop."""

    def __init__(self, spark: SparkSession, query: Query, stop: threading.Event, stop_timeout_s: float = 30.0) -> None:
        self._spark = spark
        self._query = query
        self._stop = stop
        self._stop_timeout_s = stop_timeout_s
        self._progress = query.progress
        self._failing_since: float | None = None
        self._look_at = 0.0

    def run(self, *, once: bool) -> None:
        """Run until the stop event, or with `once` until what Kafka holds now is stored. Raises FatalError."""
        delay_s = _FIRST_DELAY_S
        while not self._stop.is_set():
            try:
                failure = self._run_query(once=once)
            except Py4JError as exc:
                raise FatalError(f"the Spark JVM ended: start the stream again ({exc})") from exc
            if failure is None or self._stop.is_set():
                return
            self._raise_fatal(failure)
            if self._failing_since is None:
                logger.warning(
                    "the query failed, nothing is lost, trying from its checkpoint: %s: %s",
                    self._query.name,
                    summary(failure),
                )
                logger.debug("%s", failure)
                self._failing_since, delay_s = time.monotonic(), _FIRST_DELAY_S
                self._progress.kafka = "away"
            self._stop.wait(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _run_query(self, *, once: bool) -> str | None:
        """Run one query to its end; why it failed, None when it did not."""
        try:
            query = self._start(once=once)
        except PySparkException as exc:
            return str(exc)
        batches = self._progress.batches
        while query.isActive and not self._stop.is_set():
            if self._works_not_yet() and (self._progress.batches > batches or query.status["message"] in _IDLE):
                self._works()
            self._look(query)
            self._query.tell()
            self._stop.wait(_POLL_S)
        if self._stop.is_set():
            self._progress.state = "stopping"
            self._end(query)
            return None
        failure = query.exception()
        return None if failure is None else str(failure)

    def _works_not_yet(self) -> bool:
        return self._failing_since is not None or self._progress.state == "starting"

    def _works(self) -> None:
        self._progress.state, self._progress.kafka = "running", "ok"
        if self._failing_since is not None:
            logger.info(
                "the query runs again after %.1f s: %s", time.monotonic() - self._failing_since, self._query.name
            )
            self._failing_since = None

    def _look(self, query: StreamingQuery) -> None:
        """Note how far behind Kafka the query is, now and then: what Spark found out at its last batch."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        if (last := query.lastProgress) is not None:
            behind = last.sources[0].metrics.get("maxOffsetsBehindLatest") if last.sources else None
            self._progress.lag = None if behind is None else int(behind)

    def _start(self, *, once: bool) -> StreamingQuery:
        # A thread's own: tasks of one query do not wait for all of another's.
        self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", self._query.name)
        writing = self._query.rows().writeStream.queryName(self._query.name).foreachBatch(self._query.write)
        writing = writing.option("checkpointLocation", self._query.checkpoint_dir)
        if once:
            return writing.trigger(availableNow=True).start()
        return writing.trigger(processingTime=f"{round(self._query.trigger_interval_s * 1000)} milliseconds").start()

    def _end(self, query: StreamingQuery) -> None:
        """Let the batch in hand finish: a stop in the middle of one throws, and it would have to be done again."""
        deadline = time.monotonic() + self._stop_timeout_s
        while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
            time.sleep(_STOP_POLL_S)
        with suppress(StreamingQueryException, Py4JError):
            query.stop()

    def _raise_fatal(self, failure: str) -> None:
        if self._query.failure:
            raise self._query.failure
        if told := _FATAL.search(failure):
            raise FatalError(told.group(1))
        if any(words in failure for words in _DATA_LOSS):
            raise FatalError(
                f"Kafka no longer has records that were not read yet: {summary(failure)}\n"
                "They are lost to the database (a node's spool does not keep what Kafka acknowledged). Look into why: "
                "retention too short for the outage, a topic deleted, a broker's disk lost. To go on without them, run "
                "once with kafka.fail_on_data_loss: false."
            )


def read_kafka(
    spark: SparkSession,
    config: StreamConfig,
    topics: Sequence[str],
    max_offsets: int,
    from_ms: int = 0,
    *,
    in_task: int | None = None,
) -> DataFrame:
    """The records of topics, as Spark's Kafka source gives them; with a new checkpoint, those from `from_ms` on.

    A task takes a partition's share of a micro-batch, or `in_task` records of it at most.
    """
    kafka = config.kafka
    clients = {f"kafka.{name}": value for name, value in (_CLIENT_OPTIONS | kafka.options).items()}
    reader = spark.readStream.format("kafka").options(**clients)
    begin = {"startingOffsets": "earliest"}
    if from_ms:
        begin = {"startingTimestamp": str(from_ms), "startingOffsetsByTimestampStrategy": "latest"}
    if in_task is not None:
        reader = reader.option("maxRecordsPerPartition", str(in_task))
    return reader.options(
        **{
            "kafka.bootstrap.servers": ",".join(kafka.bootstrap_servers),
            "subscribe": ",".join(topics),
            **begin,
            "includeHeaders": "true",
            "failOnDataLoss": str(kafka.fail_on_data_loss).lower(),
            "maxOffsetsPerTrigger": str(max_offsets),
        }
    ).load()


def summary(failure: str) -> str:
    """What a person wants of a failure: Spark wraps stack traces of two languages around it. The cause comes last."""
    found = list(dict.fromkeys(_EXCEPTION.findall(failure)))
    return " <- ".join(reversed(found[-2:])) if found else failure.strip().partition("\n")[0]
