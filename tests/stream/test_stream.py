"""The job as a process, between a real Kafka and a real TimescaleDB."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml
from kafka import KafkaProducer

from contract.records import record_key
from stack import Kafka, connector_jars, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stream.conftest import Database

ROOT = Path(__file__).parents[2]
NOW = 1_700_000_000_000


class Job:
    """`python -m stream run` on topics of its own."""

    def __init__(self, directory: Path, kafka: Kafka, database: Database) -> None:
        name = uuid.uuid4().hex[:8]
        self.payloads, self.dead_letters = f"{name}.payloads", f"{name}.deadletters"
        kafka.create_topic(self.payloads, partitions=2)
        kafka.create_topic(self.dead_letters)
        self.log_path = directory / "stream.log"
        self.document: dict[str, Any] = {
            "kafka": {"bootstrap_servers": [kafka.bootstrap_servers], "max_offsets_per_trigger": 100},
            "topics": {"payloads": self.payloads, "dead_letters": self.dead_letters},
            "checkpoint_dir": str(directory / "checkpoint"),
            "trigger_interval_s": 0.2,
            "analysis": {"trigger_interval_s": 1},
            "health": {"port": free_port()},
            "spark": {"jars_dir": str(connector_jars()[0].parent), "driver_memory": "512m"},
        }
        self._config = directory / "stream.yaml"
        self.environment = os.environ | {"HEADWATER_DSN": database.writer}
        self._process: subprocess.Popen[bytes] | None = None
        self.family: list[psutil.Process] = []

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def health(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.document['health']['port']}/healthz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            health: dict[str, Any] = json.load(answer)
            return health

    def start(self, *more: str) -> Job:
        self._config.write_text(yaml.safe_dump(self.document))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stream", "run", str(self._config), *more],
                cwd=ROOT,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        return self

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 120) -> None:
        def fulfilled() -> bool:
            assert self.process.poll() is None, f"the stream has ended:\n{self.log}"
            self.family = psutil.Process(self.process.pid).children(recursive=True) or self.family
            return condition()

        assert wait_until(fulfilled, timeout_s=timeout_s, poll_s=0.1), f"waited in vain:\n{self.log}"

    def leaves_nothing_behind(self) -> bool:
        return wait_until(
            lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in self.family), timeout_s=30
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ends the job in the end, however the test went, and sees to it that nothing stays behind."""
        try:
            yield
        finally:
            if self._process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        assert self.leaves_nothing_behind()


@pytest.fixture
def job(tmp_path: Path, kafka: Kafka, migrated: Database) -> Iterator[Job]:
    job = Job(tmp_path, kafka, migrated)
    with job.running():
        yield job


def send(job: Job, kafka: Kafka, *records: Any) -> None:
    """Sends records to the payload topic, each keyed by its node as the bridge does."""
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all")) as producer:
        for record in records:
            node = dict(record.headers)["topic"].decode().split("/")[3]
            producer.send(job.payloads, record.value, record_key("g", node), headers=list(record.headers))
        producer.flush(30)


@pytest.mark.timeout(300)
def test_kill_9_in_the_middle_and_restart_store_every_reading_once(
    job: Job, kafka: Kafka, migrated: Database, payload_record: Callable[..., Any]
) -> None:
    names = [f"m{i}" for i in range(20)]

    def send_some(start: int, count: int) -> None:
        values = {n: dict.fromkeys(names, n / 7) for n in range(start, start + count)}
        send(job, kafka, *(payload_record(v, sampled_at_ms=NOW + n, node=f"n{n % 4}") for n, v in values.items()))

    send_some(0, 200)
    send(job, kafka, payload_record(payload=b"poison\xff"))
    job.start()
    job.wait_for(lambda: migrated.one("select count(*) from ingest_batch") >= 1)
    send_some(200, 200)
    job.process.kill()
    job.process.wait()
    assert job.leaves_nothing_behind(), "the JVM must not outlive its driver"
    send_some(400, 100)
    job.start()
    job.wait_for(lambda: migrated.one("select count(*) from reading") == 500 * 20)
    job.wait_for(lambda: (job.health()["state"], job.health()["lag"]) == ("running", 0))
    assert job.health()["last_commit_at"] > NOW
    job.wait_for(lambda: migrated.one("select coalesce(sum(readings), 0) from analysis_batch") == 500 * 20)
    job.wait_for(lambda: job.health()["analysis"]["lag"] == 0)
    job.process.send_signal(signal.SIGINT)
    assert job.process.wait(60) == 0, job.log
    assert job.leaves_nothing_behind()
    assert migrated.one("select count(distinct (series_id, sampled_at)) from reading") == 500 * 20
    assert migrated.one("select sum(reading_rows) from ingest_batch") == 500 * 20
    assert migrated.one("select sum(duplicate_rows) from ingest_batch") == 0, "nothing was sent twice"
    assert migrated.one("select count(*) from ingest_batch") >= 5, "the backlog is taken in pieces"
    assert migrated.rows("select kafka_topic, item, reason from dead_letter") == [
        (job.payloads, -1, migrated.one("select reason from dead_letter"))
    ]


def test_tables_that_are_missing_end_it_with_advice(job: Job, migrated: Database) -> None:
    migrated.run("drop table dead_letter")
    job.start()
    assert job.process.wait(60) == 1
    assert "run `python -m db migrate`" in job.log
    assert "Traceback" not in job.log


def test_a_stop_is_heard_while_the_database_is_away(job: Job) -> None:
    job.environment["HEADWATER_DSN"] = f"host=127.0.0.1 port={free_port()} dbname=x user=x"
    job.start()
    job.wait_for(lambda: "the database is away" in job.log)
    health = job.health()
    assert (health["state"], health["database"], health["batches"]) == ("starting", "away", 0)
    job.process.send_signal(signal.SIGTERM)
    assert job.process.wait(30) == 0, job.log


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_outage_of_the_database_is_visible_and_costs_nothing(
    job: Job, kafka: Kafka, migrated: Database, payload_record: Callable[..., Any]
) -> None:
    def send_some(start: int, count: int) -> None:
        values = range(start, start + count)
        send(job, kafka, *(payload_record({"a": 1.0}, sampled_at_ms=NOW + n, node=f"n{n % 4}") for n in values))

    send_some(0, 100)
    job.start("--only", "ingest")
    job.wait_for(lambda: migrated.one("select count(*) from reading") == 100)
    limit = "do $$ begin execute format('alter database %I connection limit {}', current_database()); end $$"
    migrated.run(limit.format(0))
    migrated.run(
        "do $$ begin perform pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid(); end $$"
    )
    send_some(100, 400)
    job.wait_for(lambda: job.health()["database"] == "away" and (job.health()["lag"] or 0) >= 200)
    health = job.health()
    assert health["database_away_since"] > NOW
    assert health["behind_s"] > 0
    migrated.run(limit.format(-1))
    job.wait_for(lambda: migrated.one("select count(*) from reading") == 500)
    job.wait_for(lambda: (job.health()["database"], job.health()["lag"], job.health()["behind_s"]) == ("ok", 0, 0))
    assert job.health()["database_away_since"] is None
    assert job.log.count("the database is away") == 1
    assert re.search(r"the database is back after [0-9.]+ s; [0-9]+ records wait", job.log)
    assert migrated.rows("select sum(reading_rows), sum(duplicate_rows) from ingest_batch") == [(500, 0)]
