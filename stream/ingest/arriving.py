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
    from collections.abc import Callable, Iterator

    from pyspark.sql import DataFrame, SparkSession

    from stream.ingest.batch import Offsets
    from stream.ingest.decode import Limits
    from stream.ingest.rows import Unfinished

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


def arriving(rows: DataFrame, piece_bytes: int = PIECE_BYTES) -> Iterator[pa.Table]:
    """The rows of `stream.ingest.transform.decoded`, in pieces of so many bytes or more; at least one.

    What a task made is in one piece. `DataFrame.toArrow` does the same, but hands out nothing before the last task has
    ended; this is its code, which is no public interface, with the waiting left out.
    """
    port, secret, served = rows._jdf.collectAsArrowToPython()  # noqa: SLF001 - see above
    arrived: _Arrived = SimpleQueue()
    threading.Thread(target=_receive, args=((port, secret), arrived), name="arriving", daemon=True).start()
    held: list[pa.RecordBatch] = []
    while isinstance(batch := arrived.get(), pa.RecordBatch):
        held.append(batch)
        if sum(each.nbytes for each in held) >= piece_bytes and batch["kind"][-1].as_py() == KINDS[TaskEnd]:
            yield pa.Table.from_batches(held)
            held = []
    with unwrap_spark_exception():
        served.getResult()
    if batch is not None:
        raise batch
    if held:
        yield pa.Table.from_batches(held)


class MicroBatches:
    """Makes micro-batches into what is stored, each whole or in pieces, as its size and its rows' memory ask for."""

    def __init__(self, decode: Callable[[DataFrame], DataFrame]) -> None:
        self._decode = decode
        self._are_small = False

    def pieces(self, records: DataFrame) -> Iterator[Batch]:
        """The pieces of a micro-batch in the order in which they are to be stored."""
        if self._are_small:
            # A task costs tens of milliseconds, which is most of what a small micro-batch takes: no more of them than
            # can run at once.
            records = records.coalesce(records.sparkSession.sparkContext.defaultParallelism)
        unfinished: list[Unfinished] = []
        offsets: Offsets = {}
        rows, made = records, 0
        while True:
            for table in arriving(self._decode(rows)):
                batch = Batch(table, offsets)
                yield batch
                made += 1
                offsets = batch.offsets()
                unfinished += batch.unfinished()
            if not unfinished:
                break
            rest = " or ".join(
                f"(topic = '{left.kafka_topic}' and partition = {left.kafka_partition} "
                f"and `offset` >= {left.kafka_offset})"
                for left in unfinished
            )
            rows, unfinished = records.where(rest), []
        self._are_small = made == 1


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
