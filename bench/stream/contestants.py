"""Who brings the readings from Kafka into the database, and how each is measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, ClassVar, Final

import psutil
import yaml

from bench.stream.bare import copied
from bench.stream.growth import Growth
from bench.stream.load import DEVICE, GROUP, NODES, metric_name, node_name
from stack.install import SPARK_JARS

if TYPE_CHECKING:
    from bench.stream.database import Database
    from bench.stream.load import Load
    from stack import Kafka

CHECKOUT: Final = Path(__file__).parents[2]
INSTALLED: Final = CHECKOUT / ".stack" / "bench" / "stream"
_TELEGRAF: Final = "github.com/influxdata/telegraf/cmd/telegraf@v1.37.2"
_TELEGRAF_TAGS: Final = "custom,inputs.kafka_consumer,outputs.postgresql,parsers.influx"
_HERE: Final = Path(__file__).parent
_POLL_S: Final = 0.1
_STALL_S: Final = 30.0
_COUNT_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Task:
    """One run: what is stored, from which topic, into which database, with files in which directory."""

    load: Load
    kafka: Kafka
    topic: str
    lines_topic: str
    records_at_once: int
    database: Database
    directory: Path
    number: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    `seconds` is from when those readings began that count, all micro-batches but the first, to the last commit;
    `whole_s` from the start of the process to that. `rows` is how many there are, and ought to be the load's.
    """

    rows: int
    seconds: float
    whole_s: float | None = None
    cpu_s: float | None = None


class Contestant(ABC):
    """One way into the table."""

    name: ClassVar[str]
    exactly_once: ClassVar[str]

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be run here."""
        return None

    @classmethod
    def install(cls) -> None:
        """Put what it needs below `.stack/bench/stream`, unless it is there."""
        return

    @abstractmethod
    def run(self, task: Task) -> Outcome:
        """Store it all."""


class BareCopy(Contestant):
    """COPY of rows that were prepared beforehand, and a durable commit for as many as the stream commits at once."""

    name = "bare COPY"
    exactly_once = "no"

    def run(self, task: Task) -> Outcome:
        """Only the database works."""
        seconds = copied(task.load, task.records_at_once * task.load.metrics, task.database.writer)
        return Outcome(_rows(task), seconds)


class Headwater(Contestant):
    """`python -m stream run --once --only ingest`, with its defaults."""

    name = "headwater"
    exactly_once = "yes"

    def run(self, task: Task) -> Outcome:
        """From when Spark planned the second batch to the commit of the last."""
        document = {
            "kafka": {
                "bootstrap_servers": [task.kafka.bootstrap_servers],
                "max_offsets_per_trigger": task.records_at_once,
            },
            "topics": {"payloads": task.topic, "dead_letters": f"{task.topic}.dead"},
            "checkpoint_dir": str(task.directory / "checkpoint"),
            # The second batch's plan says when it began: it must still be there in the end.
            "spark": {"jars_dir": str(SPARK_JARS), "settings": {"spark.sql.streaming.minBatchesToRetain": "100000"}},
        }
        task.kafka.create_topic(f"{task.topic}.dead", 1)
        path = task.directory / "stream.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        command: list[str | Path] = [sys.executable, "-m", "stream", "run", path, "--once", "--only", "ingest"]
        began_s = time.time()
        cpu_s = _completed(command, task, {"HEADWATER_DSN": task.database.writer})
        last_s = float(task.database.one("select extract(epoch from max(committed_at)) from ingest_batch"))
        return Outcome(_rows(task), last_s - _second_batch_s(task), last_s - began_s, cpu_s)


class Jdbc(Contestant):
    """Spark's JDBC sink in foreachBatch, appending: decoded as ours is, series already looked up, not sorted."""

    name = "Spark JDBC append"
    exactly_once = "no"

    @classmethod
    def missing(cls) -> str | None:
        """Maven, for the driver."""
        return None if _jars() or shutil.which("mvn") else "Maven is needed to fetch PostgreSQL's JDBC driver"

    @classmethod
    def install(cls) -> None:
        """Fetch the driver."""
        if not _jars():
            target = f"-DoutputDirectory={INSTALLED / 'jars'}"
            command = ["mvn", "-B", "-q", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies", target]
            subprocess.run(command, check=True)

    def run(self, task: Task) -> Outcome:
        """From when Spark planned the second batch to the end of the last, as the program tells."""
        series = {
            f"{GROUP}/{node_name(node)}/{DEVICE}/{metric_name(m)}": node * task.load.metrics + m
            for node in range(NODES)
            for m in range(task.load.metrics)
        }
        document = {
            "bootstrap_servers": task.kafka.bootstrap_servers,
            "topic": task.topic,
            "records_at_once": task.records_at_once,
            "checkpoint": str(task.directory / "checkpoint"),
            "scratch": str(task.directory),
            "jars": [str(jar) for jar in _jars()],
            "database": task.database.settings,
            "series": series,
            "told": str(task.directory / "told"),
        }
        path = task.directory / "jdbc.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        began_s = time.time()
        cpu_s = _completed([sys.executable, "-m", "bench.stream.jdbc", path], task, {})
        last_s = float((task.directory / "told").read_text())
        return Outcome(_rows(task), last_s - _second_batch_s(task), last_s - began_s, cpu_s)


class Telegraf(Contestant):
    """Telegraf's kafka_consumer to its postgresql output: the same readings as lines of InfluxDB's protocol.

    Its table is a hypertable with an index like ours, not unique: what comes twice is stored twice.
    """

    name = "Telegraf"
    exactly_once = "no"

    @classmethod
    def missing(cls) -> str | None:
        """Go, to build it."""
        return None if _telegraf().exists() or shutil.which("go") else "Go 1.25 or newer is needed to build it"

    @classmethod
    def install(cls) -> None:
        """Build it from source, with the plug-ins that are used (some minutes)."""
        if not _telegraf().exists():
            environment = os.environ | {"GOBIN": str(INSTALLED), "GOFLAGS": "-mod=mod"}
            command = ["go", "install", "-trimpath", "-ldflags", "-w -s", "-tags", _TELEGRAF_TAGS, _TELEGRAF]
            subprocess.run(command, env=environment, check=True)

    def run(self, task: Task) -> Outcome:
        """From when as many rows were there as the others have in their first batch."""
        task.database.run(
            "drop table reading cascade; create table public.reading "
            "(time timestamptz not null, tag_id bigint, value double precision, quality bigint); "
            "select create_hypertable('reading', by_range('time', interval '1 day'), create_default_indexes => false); "
            "create index on reading (tag_id, time); grant all on reading to headwater_writer; "
            "grant all on schema public to headwater_writer; alter table reading owner to headwater_writer"
        )
        connection = " ".join(f"{key}={_quoted(value)}" for key, value in task.database.settings.items())
        filled = Template((_HERE / "telegraf.conf").read_text(encoding="utf-8")).substitute(
            kafka=task.kafka.bootstrap_servers,
            topic=task.lines_topic,
            group=f"run-{task.number}",
            connection=connection,
        )
        path = task.directory / "telegraf.conf"
        path.write_text(filled, encoding="utf-8")
        began_s = time.time()
        with Growth(task.database.superuser) as growth:
            with (task.directory / "log").open("wb") as log:
                process = subprocess.Popen([_telegraf(), "--config", path], stdout=log, stderr=log)
            try:
                _await_rows(task)
                cpu_s = _cpu_s(process.pid)
            finally:
                process.terminate()
                process.wait(30)
        first = task.load.first / task.load.payloads
        return Outcome(_rows(task), growth.seconds(behind=first), growth.last_s() - began_s, cpu_s)


CONTESTANTS: Final[tuple[type[Contestant], ...]] = (BareCopy, Headwater, Jdbc, Telegraf)


def _rows(task: Task) -> int:
    return int(task.database.one("select count(*) from reading"))


def _second_batch_s(task: Task) -> float:
    """When Spark planned it; a checkpoint's file has the time in its second line."""
    planned = (task.directory / "checkpoint" / "offsets" / "1").read_text().splitlines()[1]
    return float(json.loads(planned)["batchTimestampMs"]) / 1000


def _await_rows(task: Task) -> None:
    """Wait until all are there; raises SystemExit where nothing goes on."""
    before, progressed_s = 0, time.monotonic()
    while (rows := _rows(task)) < task.load.rows:
        if rows > before:
            before, progressed_s = rows, time.monotonic()
        if time.monotonic() - progressed_s > _STALL_S:
            log = (task.directory / "log").read_text()
            raise SystemExit(f"stands still at {rows} of {task.load.rows} rows:\n{log[-4000:]}")
        time.sleep(_COUNT_EVERY_S)


def _completed(command: list[str | Path], task: Task, environment: dict[str, str]) -> float:
    """Run a command to its end; the CPU-seconds of it and of what it started, as last seen."""
    with (task.directory / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
    cpu_s = 0.0
    while process.poll() is None:
        cpu_s = max(cpu_s, _cpu_s(process.pid))
        time.sleep(_POLL_S)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}:\n{(task.directory / 'log').read_text()[-4000:]}")
    return cpu_s


def _cpu_s(pid: int) -> float:
    """Of a process and its descendants, without the memory that `bench.edge.process.usage` looks at for long."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return float(sum(spent.user + spent.system for spent in times))
    return 0.0


def _quoted(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _jars() -> list[Path]:
    return sorted((INSTALLED / "jars").glob("*.jar"))


def _telegraf() -> Path:
    return INSTALLED / "telegraf"
