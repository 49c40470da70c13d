"""Which of Spark's Python workers run what, and who goes first."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pyarrow as pa

from stream.workers import own_workers, step_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import SparkSession


def workers(spark: SparkSession) -> set[tuple[int, int]]:
    """The process and the niceness of those that run a function which is made now."""

    def who(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        step_back()
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"pid": [os.getpid()], "nice": [os.nice(0)]})

    return {(row.pid, row.nice) for row in spark.range(0, 2, 1, 2).mapInArrow(who, "pid long, nice long").collect()}


def test_a_thread_has_workers_of_its_own_and_others_are_not_held_up_by_them(spark: SparkSession) -> None:
    found: list[set[tuple[int, int]]] = []
    with own_workers(spark, "forecasting"):
        ours = workers(spark)
        # As the ingest makes its functions, while forecasting makes its own.
        ingest = threading.Thread(target=lambda: found.append(workers(spark)))
        ingest.start()
        ingest.join(30)
        with_analysis = threading.Thread(target=lambda: found.append(_of_analysis(spark)))
        with_analysis.start()
        with_analysis.join(30)
    after = workers(spark)
    others, of_analysis = found
    assert {nice for _, nice in ours | of_analysis} == {max(os.nice(0), 10)}
    assert {nice for _, nice in others | after} == {os.nice(0)}
    assert not {pid for pid, _ in ours} & {pid for pid, _ in of_analysis}, "each has a pool"


def _of_analysis(spark: SparkSession) -> set[tuple[int, int]]:
    with own_workers(spark, "analysis"):
        return workers(spark)
