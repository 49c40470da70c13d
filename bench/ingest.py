"""How close the sink comes to a bare COPY, and what durable commits cost.

    python -m bench.ingest [--batches 20] [--payloads 200] [--metrics 100]

Every figure of a run is taken on the same rows, the same server and the same machine; compare ratios, not rates.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import make_dsn, parse_dsn

from contract.datatypes import DataType
from contract.records import PAYLOAD_TOPIC, RecordHeaders
from contract.sparkplug import Metric, Payload, encode
from db import migrate, roles
from stack import Timescale
from stream.connection import connect
from stream.ingest import copy
from stream.ingest.batch import Batch, to_numpy
from stream.ingest.decode import KafkaRecord, Limits, decode_record
from stream.ingest.rows import KINDS, SCHEMA, NumericReading, to_batches
from stream.ingest.series import SeriesDictionary
from stream.ingest.sink import BatchKey, store
from stream.ingest.writer import Writer

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

PASSWORD = "only for this run"  # noqa: S105 - of a server that ends with it
LIMITS = Limits(366 * 86_400_000, 3_600_000)
START = 1_700_000_000_000
COPY = "copy reading (series_id, sampled_at, value, quality) from stdin (format binary)"


def main() -> None:
    """Run it all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--payloads", type=int, default=200, help="per batch")
    parser.add_argument("--metrics", type=int, default=100, help="per payload")
    options = parser.parse_args()
    rows = options.batches * options.payloads * options.metrics
    records = [
        [record(b * options.payloads + p, options.metrics) for p in range(options.payloads)]
        for b in range(options.batches)
    ]
    began = time.process_time()
    tables = [decoded(batch) for batch in records]
    decode_s = time.process_time() - began
    print(f"{rows} readings in {options.batches} batches")
    print(f"decode                        {rows / decode_s:10,.0f} rows/s of CPU time")
    with Timescale(settings={"max_wal_size": "4GB"}) as server:
        floor = rows / timed(server, partial(bare_copy, tables=tables))
        print(f"bare COPY of the same rows    {floor:10,.0f} rows/s   1.00")
        for label, run in (("sink, new rows", first), ("sink, all delivered before", second)):
            rate = rows / timed(server, partial(run, tables=tables))
            print(f"{label:<29} {rate:10,.0f} rows/s   {rate / floor:.2f}")
        for setting in ("on", "off"):
            print(f"a small batch, synchronous_commit {setting:<3} {timed_commits(server, setting, tables[0]):6.2f} ms")


def record(number: int, metrics: int) -> KafkaRecord:
    """A payload of one device, one second after the last."""
    at = START + number * 1000
    payload = Payload(
        at, tuple(Metric(f"metric {m}", DataType.DOUBLE, number / (m + 1), at) for m in range(metrics)), 0
    )
    headers = RecordHeaders("spBv1.0/bench/DDATA/node/device", at).to_kafka()
    return KafkaRecord(PAYLOAD_TOPIC, 0, number, tuple(headers), encode(payload))


def decoded(records: list[KafkaRecord]) -> pa.Table:
    """The table that a micro-batch is collected as."""
    return pa.Table.from_batches(to_batches(r for found in records for r in decode_record(found, LIMITS)), SCHEMA)


def timed(server: Timescale, run: Callable[[str], float]) -> float:
    """Seconds that a run on a fresh, migrated database took."""
    name = f"bench_{uuid4().hex[:8]}"
    superuser = server.create_database(name)
    migrate.migrate(superuser, 10)
    roles.allow_login(superuser, "headwater_writer", PASSWORD, 10)
    try:
        return run(make_dsn(**(parse_dsn(superuser) | {"user": "headwater_writer", "password": PASSWORD})))
    finally:
        server.drop_database(name)


def bare_copy(dsn: str, tables: list[pa.Table]) -> float:
    """The floor: the same rows, encoded beforehand, sorted, one COPY and one durable commit for each batch."""
    streams = [encoded(Batch(table).of(NumericReading)) for table in tables]
    opened = connect(dsn)
    began = time.perf_counter()
    for stream in streams:
        with opened.cursor() as cursor:
            cursor.copy_expert(COPY, stream, 1 << 20)
        opened.commit()
    taken = time.perf_counter() - began
    opened.close()
    return taken


def encoded(rows: pa.Table) -> io.BytesIO:
    """Readings by COPY; a metric's place in its payload is its series."""
    metrics = len(rows["metric"].unique())
    ids = np.tile(np.arange(metrics, dtype=np.int32), rows.num_rows // metrics)
    times = to_numpy(rows["sampled_at_ms"], np.int64)
    order = np.lexsort((times, ids))
    values, quality = to_numpy(rows["value"], np.float64), to_numpy(rows["quality"], np.int16)
    return copy.readings(ids[order], times[order], values[order], quality[order])


def first(dsn: str, tables: list[pa.Table]) -> float:
    """The whole sink, from the collected table to the committed ledger."""
    writer = Writer(dsn, threading.Event())
    query = uuid4()
    began = time.perf_counter()
    for number, table in enumerate(tables):
        writer.write(BatchKey(query, number), Batch(table))
    taken = time.perf_counter() - began
    writer.close()
    return taken


def second(dsn: str, tables: list[pa.Table]) -> float:
    """The same rows under a new checkpoint: the staged path, and nothing stored."""
    first(dsn, tables)
    return first(dsn, tables)


def timed_commits(server: Timescale, setting: str, table: pa.Table) -> float:
    """Median ms of a batch of one payload."""
    is_reading = pc.equal(table["kind"], KINDS[NumericReading])
    small = pa.concat_tables([table.filter(pc.invert(is_reading)).slice(0, 1), table.filter(is_reading).slice(0, 100)])

    def run(dsn: str) -> float:
        opened = connect(dsn)
        with opened.cursor() as cursor:
            cursor.execute(f"set synchronous_commit = {setting}")
        opened.commit()
        series, query, taken = SeriesDictionary(opened), uuid4(), []
        for number in range(300):
            batch = Batch(shifted(small, number))
            began = time.perf_counter()
            store(opened, series, BatchKey(query, number), batch)
            taken.append(time.perf_counter() - began)
        opened.close()
        return statistics.median(taken) * 1000

    return timed(server, run)


def shifted(table: pa.Table, seconds: int) -> pa.Table:
    """The same readings, later."""
    place = SCHEMA.get_field_index("sampled_at_ms")
    later = pc.add(table["sampled_at_ms"], seconds * 1000 + 10**7)
    return table.set_column(place, "sampled_at_ms", later)


if __name__ == "__main__":
    main()
