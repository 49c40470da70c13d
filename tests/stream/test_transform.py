from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.testing import assertDataFrameEqual

from stream.decode import KafkaRecord, Limits
from stream.rows import SCHEMA
from stream.transform import RECORD_COLUMNS, decoded

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

LIMITS = Limits(366 * 86_400_000, 3_600_000)
KAFKA = "topic string, partition int, offset bigint, headers array<struct<key: string, value: binary>>, value binary"


def frame(spark: SparkSession, *records: KafkaRecord) -> DataFrame:
    rows = [
        tuple(getattr(record, name) if name != "headers" else list(record.headers) for name in RECORD_COLUMNS)
        for record in records
    ]
    return spark.createDataFrame(rows, KAFKA)


def test_rows_in_spark_are_the_decoders_rows(
    spark: SparkSession, payload_record: Callable[..., Any], table_of: Callable[..., pa.Table]
) -> None:
    records = [
        payload_record({"a": 1.0, "state": "an", "nan": float("nan")}, offset=0),
        payload_record(kind="NBIRTH", offset=1),
        payload_record(payload=b"\xff", offset=2),
    ]
    result = decoded(frame(spark, *records), LIMITS)
    assertDataFrameEqual(result, spark.createDataFrame(table_of(*records)))


def test_the_schema_is_stated(spark: SparkSession, payload_record: Callable[..., Any]) -> None:
    schema = decoded(frame(spark, payload_record()), LIMITS).schema
    assert to_arrow_schema(schema).names == SCHEMA.names
    assert decoded(frame(spark, payload_record()), LIMITS).toArrow().schema.types == SCHEMA.types


def test_a_record_without_headers_or_value_is_set_aside(spark: SparkSession) -> None:
    bare = spark.createDataFrame([("headwater.payloads", 0, 7, None, None)], KAFKA)
    rows = decoded(bare, LIMITS).select("kafka_offset", "item", "reason").where("reason is not null").collect()
    assert [(row.kafka_offset, row.item) for row in rows] == [(7, -1)]
