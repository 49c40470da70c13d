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

import pyarrow as pa
from psycopg2.extensions import make_dsn, parse_dsn

from contract.datatypes import DataType
from contract.records import PAYLOAD_TOPIC, RecordHeaders
from contract.sparkplug import Metric, Payload, encode
from db import migrate, roles
from stack import Timescale
from stream.connection import connect
from stream.ingest import copy
from stream.ingest.batch import Batch, sorted_once
from stream.ingest.decode import KafkaRecord, Limits
from stream.ingest.rows import SCHEMA
from stream.ingest.series import SeriesDictionary
from stream.ingest.sink import BatchKey, store
from stream.ingest.transform import batches_of
from stream.ingest.writer import Writer

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from stream.ingest.columns import Readings

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
            print(f"a small batch, synchronous_commit {setting:<3} {timed_commits(server, setting):6.2f} ms")


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
    return pa.Table.from_batches(batches_of(records, LIMITS), SCHEMA)


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
    streams = [encoded(Batch(table).readings) for table in tables]
    opened = connect(dsn)
    began = time.perf_counter()
    for stream in streams:
        with opened.cursor() as cursor:
            cursor.copy_expert(COPY, stream, 1 << 20)
        opened.commit()
    taken = time.perf_counter() - began
    opened.close()
    return taken


def encoded(readings: Readings) -> io.BytesIO:
    """Readings by COPY, in the order that is best for it."""
    ids, times = readings.series_no, readings.sampled_at_ms
    order = sorted_once(ids, times)
    return copy.readings(ids[order], times[order], readings.value[order], readings.quality[order])


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


def timed_commits(server: Timescale, setting: str) -> float:
    """Median ms of a batch of one payload."""

    def run(dsn: str) -> float:
        opened = connect(dsn)
        with opened.cursor() as cursor:
            cursor.execute(f"set synchronous_commit = {setting}")
        opened.commit()
        series, query, taken = SeriesDictionary(opened), uuid4(), []
        for number in range(300):
            batch = Batch(decoded([record(number, 100)]))
            began = time.perf_counter()
            store(opened, series, BatchKey(query, number), batch)
            taken.append(time.perf_counter() - began)
        opened.close()
        return statistics.median(taken) * 1000

    return timed(server, run)


if __name__ == "__main__":
    main()
