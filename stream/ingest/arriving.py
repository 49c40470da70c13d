"""What Spark's tasks make, in pieces as they end: while one piece is stored, the next is on its way."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyspark.errors.exceptions.captured import unwrap_spark_exception
from pyspark.sql.pandas.serializers import ArrowCollectSerializer
from pyspark.util import _load_from_socket

from stream.ingest.batch import Batch
from stream.ingest.rows import KINDS, TaskEnd
from stream.ingest.transform import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyspark.sql import DataFrame, SparkSession

    from stream.ingest.batch import Offsets
    from stream.ingest.decode import Limits

# Some hundred thousand readings, of which storing takes longer than beginning a transaction.
PIECE_BYTES: Final = 4 << 20

# Arrow batches, and in the end None, or why it ended before.
_Arrived = SimpleQueue[pa.RecordBatch | Exception | None]


def warm_up(spark: SparkSession, limits: Limits) -> None:
    """Have Python workers started, with all that they import: seconds that the first micro-batch need not wait."""
    tasks = spark.sparkContext.defaultParallelism
    records = spark.range(0, tasks, 1, tasks).selectExpr(
        "'' as topic",
        "0 as partition",
        "id as offset",
        "cast(null as array<struct<key: string, value: binary>>) as headers",
        "cast(null as binary) as value",
    )
    for _table in arriving(decoded(records, limits)):
        pass


def arriving(rows: DataFrame) -> Iterator[pa.Table]:
    """The rows of `stream.ingest.transform.decoded`: what each task made, in the order of the tasks.

    `DataFrame.toArrow` does the same, but hands out nothing before the last task has ended; this is its code, which is
    no public interface, with the waiting left out.
    """
    port, secret, served = rows._jdf.collectAsArrowToPython()  # noqa: SLF001 - see above
    arrived: _Arrived = SimpleQueue()
    threading.Thread(target=_receive, args=((port, secret), arrived), name="arriving", daemon=True).start()
    yield from in_order(_received(arrived, served))


def in_order(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tasks' batches, each task's one behind the other, as a table for each task, in the order of the tasks.

    Raises RuntimeError where a task's end is missing: its micro-batch may not be taken for stored.
    """
    made: list[pa.RecordBatch] = []
    early: dict[int, pa.Table] = {}
    wanted = 0
    for batch in batches:
        made.append(batch)
        if batch["kind"][-1].as_py() == KINDS[TaskEnd]:
            early[batch["task"][-1].as_py()] = pa.Table.from_batches(made)
            made = []
        while wanted in early:
            yield early.pop(wanted)
            wanted += 1
    if made or early:
        raise RuntimeError(f"Spark's task {wanted} did not end, and of {len(early)} behind it nothing is stored")


def together(tables: Iterable[pa.Table], least_bytes: int) -> Iterator[pa.Table]:
    """Tables of so many bytes or more, each of some that follow each other; at least one."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(each.nbytes for each in held) >= least_bytes:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


class MicroBatches:
    """Makes micro-batches into what is stored, each whole or in pieces, as its size and its rows' memory ask for."""

    def __init__(self, decode: Callable[[DataFrame], DataFrame], piece_bytes: int = PIECE_BYTES) -> None:
        self._decode = decode
        self._piece_bytes = piece_bytes
        self._are_small = False

    def pieces(self, records: DataFrame) -> Iterator[Batch]:
        """The pieces of a micro-batch in the order in which they are to be stored: that of Kafka's partitions."""
        if self._are_small:
            # A task costs tens of milliseconds, which is most of what a small micro-batch takes: no more of them than
            # can run at once. Neighbours are joined, so that a partition's records keep their order, as long as no task
            # prefers an executor; where a query asks for `maxRecordsPerPartition`, Spark's source makes none that does.
            records = records.coalesce(records.sparkSession.sparkContext.defaultParallelism)
        offsets: Offsets = {}
        rows, made = records, 0
        while True:
            left = Left()
            for table in together(left.stored(arriving(self._decode(rows))), self._piece_bytes):
                batch = Batch(table, offsets)
                if made and not batch.first_offsets():
                    continue  # of tasks whose partitions have nothing left: the ledger would take it for stored before
                yield batch
                made += 1
                offsets = batch.offsets()
            if not left.begins:
                break
            rows = records.where(left.condition())
        self._are_small = made == 1


class Left:
    """What a pass leaves for the next: `begins` has the first offset of each topic and partition of which there is any.

    Several tasks share a partition's records, and one of them may have stopped short. What later ones made of it waits,
    too: a node's records are stored in their order.
    """

    def __init__(self) -> None:
        self.begins: dict[tuple[str, int], int] = {}

    def stored(self, tasks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """What of the tasks' is to be stored now."""
        for table in tasks:
            batch = Batch(table)
            left = {(row.kafka_topic, row.kafka_partition): row.kafka_offset for row in batch.unfinished()}
            begins = left | batch.first_offsets()
            if self.begins.keys().isdisjoint(begins):
                yield table
            else:
                left = begins
            self.begins = left | self.begins

    def condition(self) -> str:
        """What is left, in SQL."""
        return " or ".join(
            f"(topic = '{topic}' and partition = {partition} and `offset` >= {offset})"
            for (topic, partition), offset in self.begins.items()
        )


def _received(arrived: _Arrived, served: Any) -> Iterator[pa.RecordBatch]:  # noqa: ANN401 - of the JVM
    while isinstance(batch := arrived.get(), pa.RecordBatch):
        yield batch
    with unwrap_spark_exception():
        served.getResult()
    if batch is not None:
        raise batch


def _receive(address: Any, arrived: _Arrived) -> None:  # noqa: ANN401 - of pyspark's own making
    """Take all that comes at once: the JVM's scheduler waits for whoever reads."""
    end: Exception | None = ConnectionError("Spark's results were cut short")
    try:
        with _load_from_socket(address, ArrowCollectSerializer()) as stream:  # type: ignore[no-untyped-call]  # as above
            for item in stream:
                if isinstance(item, pa.RecordBatch):
                    arrived.put(item)
                else:
                    end = None  # the order of the partitions, which comes last
    except Exception as exc:  # noqa: BLE001 - raised by whoever waits
        end = exc
    arrived.put(end)
