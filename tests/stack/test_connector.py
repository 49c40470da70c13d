"""The jars from stream/pom.xml under the pyspark of the lock file: two registries, which may be a release apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyspark
import pytest
from kafka import KafkaProducer
from pyspark.sql import SparkSession

from stack import connector_jars
from stack.install import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack import Kafka


@pytest.fixture
def spark() -> Iterator[SparkSession]:
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.jars", ",".join(str(jar) for jar in connector_jars()))
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .getOrCreate()
    )
    yield session
    session.stop()


def test_spark_reads_kafka_as_a_stream_and_as_a_table(spark: SparkSession, kafka: Kafka, tmp_path: Path) -> None:
    kafka.create_topic("stack.spark", partitions=2)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all")
    for number in range(100):
        producer.send("stack.spark", str(number).encode(), headers=[("epoch", b"1")])
    producer.close()
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "subscribe": "stack.spark",
        "startingOffsets": "earliest",
        "includeHeaders": "true",
    }
    table = spark.read.format("kafka").options(**options).load()
    assert table.selectExpr("sum(cast(cast(value as string) as int))").collect()[0][0] == sum(range(100))

    (
        spark.readStream.format("kafka")
        .options(**options, maxOffsetsPerTrigger="30")
        .load()
        .selectExpr("cast(value as string)", "headers")
        .writeStream.format("memory")
        .queryName("records")
        .option("checkpointLocation", str(tmp_path))
        .trigger(availableNow=True)
        .start()
        .awaitTermination()
    )
    assert spark.sql("select count(distinct value), max(headers[0].key) from records").collect() == [(100, "epoch")]


def test_no_connector_jar_shadows_one_of_sparks_own() -> None:
    def artifacts(jars: Iterator[Path]) -> set[str]:
        return {jar.name.rpartition("-")[0] for jar in jars}

    assert pyspark.__file__ is not None
    shipped = artifacts((CHECKOUT / pyspark.__file__).parent.joinpath("jars").glob("*.jar"))
    assert shipped
    assert not shipped & artifacts(iter(connector_jars()))
