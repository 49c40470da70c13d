from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.testing import assertDataFrameEqual

from contract.datatypes import DataType
from contract.records import PAYLOAD_TOPIC
from contract.sparkplug import Metric, Payload, encode
from stream.ingest.arriving import MicroBatches, arriving, in_order, together
from stream.ingest.batch import Batch
from stream.ingest.decode import KafkaRecord, Limits
from stream.ingest.rows import SCHEMA, Record, TaskEnd, TextReading, Unfinished, to_batches
from stream.ingest.transform import RECORD_COLUMNS, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from stream.ingest.rows import TableRow

NOW = 1_700_000_000_000
LIMITS = Limits(366 * 86_400_000, 3_600_000)
KAFKA = "topic string, partition int, offset bigint, headers array<struct<key: string, value: binary>>, value binary"


def frame(spark: SparkSession, *records: KafkaRecord) -> DataFrame:
    return spark.createDataFrame(rows_of(records), KAFKA)


def rows_of(records: Sequence[KafkaRecord]) -> list[tuple[Any, ...]]:
    return [
        tuple(getattr(record, name) if name != "headers" else list(record.headers) for name in RECORD_COLUMNS)
        for record in records
    ]


def test_rows_in_spark_are_the_decoders_rows(
    spark: SparkSession, payload_record: Callable[..., Any], table_of: Callable[..., pa.Table]
) -> None:
    records = [
        payload_record({"a": 1.0, "state": "an", "nan": float("nan")}, offset=0),
        payload_record(kind="NBIRTH", offset=1),
        payload_record(payload=b"\xff", offset=2),
    ]
    result = decoded(frame(spark, *records).coalesce(1), LIMITS)
    assertDataFrameEqual(result.where("records is null"), spark.createDataFrame(table_of(*records)))
    assert [row.records for row in result.select("records").where("records is not null").collect()] == [3]


def test_the_schema_is_stated(spark: SparkSession, payload_record: Callable[..., Any]) -> None:
    schema = decoded(frame(spark, payload_record()), LIMITS).schema
    assert to_arrow_schema(schema).names == SCHEMA.names
    assert decoded(frame(spark, payload_record()), LIMITS).toArrow().schema.types == SCHEMA.types


def test_a_record_without_headers_or_value_is_set_aside(spark: SparkSession) -> None:
    bare = spark.createDataFrame([("headwater.payloads", 0, 7, None, None)], KAFKA)
    rows = decoded(bare, LIMITS).select("kafka_offset", "item", "reason").where("reason is not null").collect()
    assert [(row.kafka_offset, row.item) for row in rows] == [(7, -1)]


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_batch_whose_rows_are_large_comes_in_pieces_that_are_the_whole(
    spark: SparkSession, payload_record: Callable[..., Any], table_of: Callable[..., pa.Table], tasks: int
) -> None:
    values = {f"m{n}": float(n) for n in range(50)} | {"state": "an"}
    records = [payload_record(values, offset=offset) for offset in range(6)]
    records += [replace(record, partition=1) for record in records[:2]]
    # A partition's records lie in one task, or in some that follow each other.
    lying = spark.createDataFrame(spark.sparkContext.parallelize(rows_of(records), tasks), KAFKA)
    found = list(MicroBatches(partial(decoded, limits=LIMITS, max_bytes=1), piece_bytes=1).pieces(lying))
    assert len(found) >= 3
    assert found[-1].offsets() == {PAYLOAD_TOPIC: {"0": 6, "1": 2}}
    assert not found[-1].unfinished()
    whole = Batch(table_of(*records))
    for row_type in (Record, TextReading):
        pieces = sorted(tuple(row.values()) for batch in found for row in batch.of(row_type).to_pylist())
        assert pieces == sorted(tuple(row.values()) for row in whole.of(row_type).to_pylist())
    values_stored = sorted(value for batch in found for value in batch.readings.value.tolist())
    assert values_stored == sorted(whole.readings.value.tolist())
    stored = [(row["kafka_partition"], row["kafka_offset"]) for each in found for row in each.of(Record).to_pylist()]
    for partition in (0, 1):
        offsets = [offset for of, offset in stored if of == partition]
        assert offsets == sorted(offsets)


def test_one_payload_of_a_megabyte_of_metrics_is_stored_whole(
    spark: SparkSession, payload_record: Callable[..., Any]
) -> None:
    tiny = encode(Payload(NOW, tuple(Metric("m", DataType.INT8, 1, NOW + n) for n in range(60_000))))
    (batch,) = MicroBatches(partial(decoded, limits=LIMITS)).pieces(frame(spark, payload_record(payload=tiny)))
    assert len(batch.readings.value) == 60_000


def test_what_tasks_make_comes_task_by_task(spark: SparkSession, payload_record: Callable[..., Any]) -> None:
    records = [payload_record({"a": float(n)}, offset=n) for n in range(12)]
    rows = decoded(frame(spark, *records).repartition(4), LIMITS)
    found = [Batch(table) for table in arriving(rows)]
    assert [batch.of(TaskEnd)["task"].to_pylist() for batch in found] == [[0], [1], [2], [3]]
    for batch in found:
        assert batch.of(TaskEnd)["records"].to_pylist() == [batch.of(Record).num_rows] == [len(batch.readings.value)]
    assert sorted(value for batch in found for value in batch.readings.value.tolist()) == [float(n) for n in range(12)]


def test_tasks_that_end_early_wait_for_those_before_them() -> None:
    ends = {no: list(to_batches([Record("p", 0, no), TaskEnd(no, 1)])) for no in range(4)}
    arrived = [batch for no in (2, 0, 3, 1) for batch in ends[no]]
    found = [Batch(table) for table in in_order(arrived)]
    assert [batch.of(Record)["kafka_offset"].to_pylist() for batch in found] == [[0], [1], [2], [3]]


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_task_whose_end_is_missing_is_told_and_nothing_behind_it_is_stored(missing: int) -> None:
    whole = [(Record("p", 0, no), TaskEnd(no, 1)) for no in range(4)]
    arrived = [batch for no, rows in enumerate(whole) for batch in to_batches(rows[:1] if no == missing else rows)]
    found: list[int] = []
    with pytest.raises(RuntimeError, match=f"task {missing} did not end"):
        found.extend(Batch(table).of(TaskEnd)["task"][0].as_py() for table in in_order(arrived))
    assert found == list(range(missing))


def test_tasks_with_nothing_left_are_no_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[list[TableRow]]] = [
        [[Record("p", 0, 0), Unfinished("p", 0, 1), TaskEnd(0, 1)], [Record("p", 1, 7), TaskEnd(1, 1)]],
        [[Record("p", 0, 1), TaskEnd(0, 1)], [TaskEnd(1, 0)]],
    ]
    monkeypatch.setattr(
        "stream.ingest.arriving.arriving",
        lambda _rows: [pa.Table.from_batches(to_batches(rows)) for rows in passes.pop(0)],
    )
    asked: list[str] = []
    records: Any = SimpleNamespace(where=asked.append)
    found = list(MicroBatches(lambda rows: rows, piece_bytes=1).pieces(records))
    assert asked == ["(topic = 'p' and partition = 0 and `offset` >= 1)"]
    assert [batch.offsets() for batch in found] == [{"p": {"0": 1}}, {"p": {"0": 1, "1": 8}}, {"p": {"0": 2, "1": 8}}]


def test_pieces_are_of_so_many_bytes_or_more() -> None:
    tables = [pa.table({"kind": pa.array(range(n), pa.int8())}) for n in (3, 3, 8, 1)]
    assert [table.num_rows for table in together(tables, 6)] == [6, 8, 1]
    assert [table.num_rows for table in together(tables, 100)] == [15]


def test_after_a_small_micro_batch_the_next_has_no_more_tasks_than_run_at_once(
    spark: SparkSession, payload_record: Callable[..., Any]
) -> None:
    records = frame(spark, *(payload_record({"a": float(n)}, offset=n) for n in range(12))).repartition(6)
    batches = MicroBatches(partial(decoded, limits=LIMITS))
    cores = spark.sparkContext.defaultParallelism
    for tasks in (6, min(6, cores)):
        (batch,) = batches.pieces(records)
        assert batch.of(TaskEnd).num_rows == tasks
        assert sorted(batch.readings.value.tolist()) == [float(n) for n in range(12)]


def test_a_task_that_fails_is_told_and_no_piece_is_taken_for_the_last(spark: SparkSession) -> None:
    rows = decoded(spark.createDataFrame([("p", 0, 1, None, None)], KAFKA), LIMITS)
    broken = rows.withColumn("item", F.raise_error(F.lit("a broken disk")).cast("int"))
    with pytest.raises(PySparkException, match="a broken disk"):
        list(arriving(broken))
