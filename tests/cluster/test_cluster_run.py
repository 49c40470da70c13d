"""The same job on clusters: a worker and a broker are killed in the run, and nothing is lost or stored twice."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from bench.fleet import GROUP, Fleet, Publisher, run
from contract.records import PAYLOAD_TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import Clusters

FLEET = Fleet(nodes=12, metrics=20)
RATE = 60.0
EPOCH = 1_700_000_000_000
STEP_S = 10  # the analysis' own

# Where each reading should be, and what it should say: `value_of` in SQL. A batch's place in its node's order of time
# is its number.
WRONG = f"""
select count(*) from (
  select split_part(s.node_id, '-', 2)::int as node, right(s.metric, 5)::int as metric, r.value,
         row_number() over (partition by r.series_id order by r.sampled_at) as batch_no
    from reading r join series s using (series_id)
   where s.group_id = '{GROUP}' and s.device_id = 'device') as found
 where value <> node * 1e6 + metric * 1e3 + batch_no / 8.0
"""
# One row per partition and batch that read it, in the batches' order; of either ledger.
LEDGER = f"""
select partition::int, batch_id, next_offset::bigint
  from {{ledger}}, jsonb_each_text(offsets->'{PAYLOAD_TOPIC}') as ends (partition, next_offset)
 order by 1, 2
"""


class Load(threading.Thread):
    """The fleet, publishing until it is told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(name="fleet")
        self.batches: list[int] = []
        self._publisher = Publisher(port)
        self._stop_asked = threading.Event()

    def run(self) -> None:
        self.batches = run(
            FLEET, self._publisher, messages_per_second=RATE, stop=lambda _: self._stop_asked.is_set(), epoch=EPOCH
        )
        self._publisher.close()

    def finish(self) -> None:
        self._stop_asked.set()
        self.join(120)
        assert self.batches, "the broker did not take everything"


@pytest.fixture
def load(clusters: Clusters) -> Iterator[Load]:
    load = Load(clusters.mosquitto.port)
    load.start()
    yield load
    load.finish()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_and_a_broker_are_killed_and_nothing_is_lost(
    clusters: Clusters, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()

    def say(what: str) -> None:
        with capsys.disabled():
            print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)  # noqa: T201 - a test of minutes says how far it is

    def stored() -> int:
        return int(clusters.one("select coalesce(sum(reading_rows), 0) from ingest_batch"))

    def wait_for_more(batches: int = 5) -> None:
        before = clusters.one("select count(*) from ingest_batch")
        clusters.wait(lambda: clusters.one("select count(*) from ingest_batch") >= before + batches)
        say(f"{stored()} readings stored")

    first, second = clusters.spark.workers
    wait_for_more()
    assert (first.executors(), second.executors()) == (1, 1), "the job runs on both workers"

    first.kill()
    say("a worker killed")
    wait_for_more()
    first.start()
    clusters.wait(lambda: first.executors() == 1)
    say("it is back, and has work")

    # The one that leads most is missed most: every partition of the first broker gets another leader.
    clusters.kafka.brokers[0].kill()
    say("a broker killed")
    wait_for_more()
    clusters.kafka.brokers[0].start()
    clusters.kafka.wait_in_sync()
    say("it is back, and in sync")
    wait_for_more()

    # Both at once: the worker that has run all the time, and the broker that has most leaders by now.
    second.kill()
    clusters.kafka.brokers[1].kill()
    say("the other worker and a second broker killed")
    wait_for_more()
    second.start()
    clusters.kafka.brokers[1].start()

    load.finish()
    expected = sum(load.batches) * FLEET.metrics
    say(f"{expected} readings sent")
    clusters.wait(lambda: clusters.bridge.health().get("in_flight") == 0)
    ends = {n: end for (topic, n), end in clusters.end_offsets().items() if topic == PAYLOAD_TOPIC}
    clusters.wait(lambda: ledger_ends(clusters, "ingest_batch") == ends)
    check_tables(clusters, expected)
    clusters.wait(lambda: ledger_ends(clusters, "analysis_batch") == ends)
    check_analysis(clusters)


def ledger_ends(clusters: Clusters, ledger: str) -> dict[int, int]:
    """How far each partition of the payload topic has come in a ledger."""
    return {partition: end for partition, _, end in clusters.rows(LEDGER.format(ledger=ledger))}


def check_analysis(clusters: Clusters) -> None:
    """Its state moved between workers with the killed ones' tasks, and no series lost its own."""
    assert clusters.one("select count(distinct query_id) from analysis_batch") == 1
    assert clusters.one("select max(batch_id) + 1 - count(*) from analysis_batch") == 0
    assert clusters.one("select sum(trends) from analysis_batch") == clusters.one("select count(*) from trend")
    series = clusters.rows("select count(*), max(at) - min(at) from trend group by series_id")
    assert len(series) == FLEET.series
    assert all(count == (span.total_seconds() // STEP_S) + 1 for count, span in series), "no step is missing"


def check_tables(clusters: Clusters, expected: int) -> None:
    assert clusters.one("select count(*) from reading") == expected
    assert clusters.one("select count(distinct (series_id, sampled_at)) from reading") == expected
    assert clusters.one("select count(*) from series") >= FLEET.series
    assert clusters.one(WRONG) == 0, "every value stands at its own time"
    assert clusters.one("select sum(reading_rows) from ingest_batch") == expected, "the ledger tells what is there"
    assert clusters.one("select count(distinct query_id) from ingest_batch") == 1, "one checkpoint, never lost"
    assert clusters.one("select max(batch_id) + 1 - count(*) from ingest_batch") == 0, "no batch without its entry"
    rows = clusters.rows(LEDGER.format(ledger="ingest_batch"))
    pairs = [(one, two) for one, two in pairwise(rows) if one[0] == two[0]]
    assert all(one[2] <= two[2] for one, two in pairs), "offsets only rise"
    assert clusters.one("select count(*) from gap") == 0
    assert clusters.rows("select mqtt_topic, metric, reason from dead_letter") == []
