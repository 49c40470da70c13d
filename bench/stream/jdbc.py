"""The contestant that appends with Spark's JDBC sink: `python -m bench.stream.jdbc FILE`, started by contestants.py."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from stack.install import SPARK_JARS
from stream.config import SparkConfig
from stream.ingest.columns import decode_columns
from stream.ingest.decode import Limits
from stream.ingest.transform import RECORD_COLUMNS, to_record
from stream.session import start

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame

_LIMITS: Final = Limits(366 * 86_400_000, 3_600_000)
_COLUMNS: Final = "series_id int, sampled_at timestamp, value double, quality smallint"
_BATCH_ROWS: Final = "10000"


def main(path: Path) -> None:
    """Append all that the topic holds, and tell when the last batch ended."""
    task: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    jars = ",".join([*task["jars"], *map(str, sorted(SPARK_JARS.glob("*.jar")))])
    spark = start(SparkConfig(jars_dir=SPARK_JARS, settings={"spark.jars": jars}), Path(task["scratch"]))
    ended_s: list[float] = []

    def append(records: DataFrame, _number: int) -> None:
        rows = records.select(*RECORD_COLUMNS).mapInArrow(partial(_rows, task["series"]), _COLUMNS)
        rows.write.jdbc(_url(task["database"]), "reading", "append", _properties(task["database"]))
        ended_s.append(time.time())

    reader = spark.readStream.format("kafka").option("kafka.bootstrap.servers", task["bootstrap_servers"])
    reader = reader.option("subscribe", task["topic"]).option("includeHeaders", "true")
    reader = reader.option("startingOffsets", "earliest").option("maxOffsetsPerTrigger", task["records_at_once"])
    writing = reader.load().writeStream.foreachBatch(append).option("checkpointLocation", task["checkpoint"])
    writing.trigger(availableNow=True).start().awaitTermination()
    Path(task["told"]).write_text(str(ended_s[-1]), encoding="utf-8")
    spark.stop()


def _rows(series: dict[str, int], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The columns of `reading`, decoded as the stream does."""
    for batch in batches:
        readings, _others = decode_columns([to_record(columns) for columns in batch.to_pylist()], _LIMITS)
        ids = np.array([series["/".join(name)] for name in readings.series], np.int32)
        times = pa.array(readings.sampled_at_ms * 1000).cast(pa.timestamp("us", "UTC"))
        columns = [ids[readings.series_no], times, readings.value, readings.quality]
        yield pa.record_batch(columns, names=["series_id", "sampled_at", "value", "quality"])


def _url(database: dict[str, str]) -> str:
    return f"jdbc:postgresql://{database['host']}:{database['port']}/{database['dbname']}?reWriteBatchedInserts=true"


def _properties(database: dict[str, str]) -> dict[str, str]:
    account = {"user": database["user"], "password": database["password"]}
    return account | {"driver": "org.postgresql.Driver", "batchsize": _BATCH_ROWS}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
