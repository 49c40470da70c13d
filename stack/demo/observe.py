"""What the demo looks at: the agents' and the bridge's health, Kafka's lag, and the ledger in the database.

Everything here may be down at any moment, so each look that fails leaves its part of the snapshot empty.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg2
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from contract.records import DEAD_LETTER_TOPIC, PAYLOAD_TOPIC
from stack.demo.layout import NODES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.demo.layout import Layout

_TIMEOUT_S: Final = 2.0
_RATE_WINDOW_S: Final = 10.0
TOPICS: Final = (PAYLOAD_TOPIC, DEAD_LETTER_TOPIC)

# (topic, partition) -> next offset
Offsets = dict[tuple[str, int], int]

# Micro-batches report percentiles of their own readings; the median of the medians, weighted by rows, and the worst
# of the 99th percentiles bound what a reading of the last minute met.
_INGEST_SQL: Final = """
with recent as (
  select latency_p50_ms, latency_p99_ms, reading_rows,
         sum(reading_rows) over (order by latency_p50_ms) as below, sum(reading_rows) over () as total
    from ingest_batch
   where committed_at > now() - interval '1 minute' and latency_p50_ms is not null)
select (select coalesce(sum(reading_rows + text_rows), 0) from ingest_batch),
       (select count(*) from dead_letter), (select count(*) from gap where kind = 'declared'),
       (select count(*) from gap where kind = 'undelivered' and state = 'open'),
       (select count(*) from gap where state = 'given_up'), (select count(*) from series),
       (select min(latency_p50_ms) from recent where below * 2 >= total), (select max(latency_p99_ms) from recent)
"""
# How far off forecasts were in the last minutes, by how far off it would have been to say that nothing changes.
_ANALYSED_SQL: Final = """
select (select count(*) from bar), (select count(*) from anomaly where ended_at is null),
       (select count(*) from anomaly),
       (select count(*) from forecast join forecaster using (forecaster_id) where place = 'cloud'),
       (select count(*) from forecast join forecaster using (forecaster_id) where place = 'edge'),
       (select sum(abs(error)) filter (where naive_error is not null) / nullif(sum(abs(naive_error)), 0)
          from forecast_score where target_at > now() - interval '10 minutes')
"""
# A micro-batch names only the partitions that it read, and the ledger goes back a month.
_OFFSETS_SQL: Final = """
select topic, partition, max(next_offset::bigint)
  from ingest_batch, jsonb_each(offsets) as topics (topic, partitions),
       jsonb_each_text(partitions) as ends (partition, next_offset)
 group by topic, partition
"""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What the database holds, None where it does not answer; latency is sampled_at to commit, in the last minute.

    Gaps are those that nodes have declared, and those of batches that did not come: which may still, or will not.
    """

    rows: int | None = None
    dead_letters: int | None = None
    gaps_declared: int | None = None
    gaps_open: int | None = None
    gaps_given_up: int | None = None
    series: int | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Analysed:
    """What was worked out of it; `mase` is of forecasts' errors, by those of forecasts that nothing changes."""

    bars: int | None = None
    anomalies_open: int | None = None
    anomalies: int | None = None
    forecasts_cloud: int | None = None
    forecasts_edge: int | None = None
    mase: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the whole system; None where something did not answer."""

    nodes: Mapping[str, Any]
    bridge: Mapping[str, Any] | None
    stream: Mapping[str, Any] | None
    ingested: Ingested
    kafka_lag: int | None
    # Per second over the last ten: node/source -> readings, and "rows", "records" of the whole.
    rates: Mapping[str, float] = field(default_factory=dict)
    analysed: Analysed = field(default_factory=Analysed)


class Observer:
    """Looks at a running demo, from one thread at a time; `reader_dsn` may only read."""

    def __init__(self, layout: Layout, reader_dsn: str) -> None:
        self._ports = layout.ports
        self._dsn = reader_dsn
        self._history: list[tuple[float, dict[str, float]]] = []

    def snapshot(self) -> Snapshot:
        """One look; takes a few seconds at most when things are down."""
        nodes = {node: healthz(port) for node, port in zip(NODES, self._ports.edge_health, strict=True)}
        bridge = healthz(self._ports.bridge_health)
        stream = healthz(self._ports.stream_health)
        ingested = self.ingested()
        rates = self._rates(_counters(nodes, bridge, ingested))
        return Snapshot(nodes, bridge, stream, ingested, self.kafka_lag(), rates, self.analysed())

    def ingested(self) -> Ingested:
        """The database's side."""
        rows = self._query(_INGEST_SQL)
        return Ingested(*rows[0]) if rows else Ingested()

    def analysed(self) -> Analysed:
        """What the database has beyond that."""
        rows = self._query(_ANALYSED_SQL)
        return Analysed(*rows[0]) if rows else Analysed()

    def kafka_lag(self) -> int | None:
        """Records that Kafka has and the database has not yet, None when either does not answer."""
        try:
            begins, ends = offsets(f"127.0.0.1:{self._ports.kafka}")
        except KafkaError:
            return None
        rows = self._query(_OFFSETS_SQL)
        if rows is None:
            return None
        done: Offsets = {(topic, int(partition)): next_offset for topic, partition, next_offset in rows}
        return sum(end - done.get(partition, begins[partition]) for partition, end in ends.items())

    def _query(self, sql: str) -> list[tuple[Any, ...]] | None:
        try:
            connection = psycopg2.connect(
                self._dsn, connect_timeout=int(_TIMEOUT_S), options="-c statement_timeout=5000"
            )
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    return cursor.fetchall()
            finally:
                connection.close()
        except psycopg2.Error:
            return None

    def _rates(self, counters: dict[str, float]) -> dict[str, float]:
        now = time.monotonic()
        self._history = [(at, old) for at, old in self._history if now - at <= _RATE_WINDOW_S]
        self._history.append((now, counters))
        first_at, first = self._history[0]
        if now == first_at:
            return {}
        # A counter that was reset, by a restart, counts from 0.
        return {
            name: max(value - first.get(name, 0.0), 0.0) / (now - first_at)
            for name, value in counters.items()
            if name in first
        }


def healthz(port: int) -> dict[str, Any] | None:
    """A role's own account of itself, None when it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=_TIMEOUT_S) as response:
            health: dict[str, Any] = json.load(response)
            return health
    except (OSError, urllib.error.URLError, ValueError):
        return None


def offsets(bootstrap_servers: str) -> tuple[Offsets, Offsets]:
    """The first and the next offset of each partition of our topics; raises KafkaError."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        bootstrap_timeout_ms=2_000,
        request_timeout_ms=3_000,
        enable_auto_commit=False,
    )
    try:
        found = [TopicPartition(topic, p) for topic in TOPICS for p in consumer.partitions_for_topic(topic) or ()]
        begins, ends = consumer.beginning_offsets(found), consumer.end_offsets(found)
        return _by_name(begins), _by_name(ends)
    finally:
        consumer.close()


def _by_name(found: Mapping[TopicPartition, int]) -> Offsets:
    return {(at.topic, at.partition): offset for at, offset in found.items()}


def _counters(nodes: Mapping[str, Any], bridge: Mapping[str, Any] | None, ingested: Ingested) -> dict[str, float]:
    counters = {
        f"{node}/{name}": float(source["readings"])
        for node, health in nodes.items()
        for name, source in (health or {}).get("sources", {}).items()
    }
    if bridge is not None:
        counters["records"] = float(bridge["produced"])
    if ingested.rows is not None:
        counters["rows"] = float(ingested.rows)
    return counters


class Watch:
    """Takes snapshots in a thread, so that a server that hangs does not freeze the screen."""

    def __init__(self, observer: Observer, interval_s: float = 1.0) -> None:
        self._observer = observer
        self._interval_s = interval_s
        self._latest: Snapshot | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-watch", daemon=True)

    @property
    def latest(self) -> Snapshot | None:
        """The newest snapshot, None before the first."""
        return self._latest

    def _run(self) -> None:
        while not self._stop.is_set():
            self._latest = self._observer.snapshot()
            self._stop.wait(self._interval_s)

    def __enter__(self) -> Watch:  # noqa: PYI034  # not meant to be subclassed
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10.0)
