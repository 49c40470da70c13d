"""The whole path on this machine, every part a process of its own, and what each has cost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import psycopg2
import yaml
from psycopg2.extensions import make_dsn, parse_dsn

from contract.records import DEAD_LETTER_TOPIC, PAYLOAD_TOPIC
from db import migrate, roles
from stack import (
    BrokerLimits,
    Command,
    Kafka,
    ManagedProcess,
    Mosquitto,
    Timescale,
    connector_jars,
    free_port,
    together,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from bench.fleet import Fleet

CHECKOUT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 6
# Where CPU time and memory go. Spark's are the driver's Python, its JVM (with local[N] the executor, too), and the
# Python workers.
OURS: Final = ("bridge", "driver", "jvm", "workers", "postgresql")
PARTS: Final = (*OURS, "kafka", "mosquitto")
# Their children come and go: what those have cost stands with the parent.
_FORKING: Final = frozenset({"workers", "postgresql"})
_PASSWORD: Final = "only for this run"  # noqa: S105 - of a server that ends with it
_MIB: Final = 1 << 20
_START_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU-seconds since the start of one part, and its memory now, shared pages counted once (PSS)."""

    cpu_s: float = 0.0
    pss_mib: float = 0.0
    rss_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the nodes send: `readings_per_s` of all together."""

    fleet: Fleet
    readings_per_s: float

    @property
    def messages_per_s(self) -> float:
        """Of all nodes together."""
        return self.readings_per_s / self.fleet.readings_a_message


class System:
    """A context manager over three servers, the bridge and the stream, all with their defaults but for ports.

    `stream` is merged into the stream's configuration, `env` into its environment.
    """

    def __init__(
        self, directory: Path, stream: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory
        self._env = dict(env or {})
        self._stream = dict(stream or {})
        self._ends = ExitStack()
        self._health: dict[str, int] = {}
        self._roles: dict[str, ManagedProcess] = {}
        self.mosquitto = Mosquitto()
        self.kafka = Kafka(limits=BrokerLimits(retention_bytes=256 << 20))
        self.timescale = Timescale()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._ends.close()

    def health(self, role: str) -> dict[str, Any]:
        """What a role says of itself; empty while it says nothing."""
        try:
            url = f"http://127.0.0.1:{self._health[role]}/healthz"
            with urllib.request.urlopen(url, timeout=5) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except OSError:
            return {}

    def publish(self, load: Load, seconds: float) -> subprocess.Popen[bytes]:
        """Starts the nodes, in a process of their own."""
        fleet = load.fleet
        sizes = ["--nodes", fleet.nodes, "--metrics", fleet.metrics, "--readings", fleet.readings_a_message]
        pace = ["--messages-per-second", load.messages_per_s, "--seconds", seconds]
        words = [sys.executable, "-m", "bench.fleet", "--port", self.mosquitto.port, *sizes, *pace]
        process = subprocess.Popen([str(word) for word in words], cwd=CHECKOUT, stdout=subprocess.DEVNULL)
        self._ends.callback(process.wait)
        self._ends.callback(process.kill)
        return process

    def stored(self) -> int:
        """How many readings are committed."""
        return int(self.one("select coalesce(sum(reading_rows), 0) from ingest_batch"))

    def one(self, statement: str, *values: object) -> Any:  # noqa: ANN401 - whatever the statement asks for
        """The one value that a statement gives."""
        with closing(psycopg2.connect(self.timescale.superuser_dsn)) as opened, opened.cursor() as cursor:
            cursor.execute(statement, values or None)
            (value,) = cursor.fetchone() or (None,)
            return value

    def costs(self) -> dict[str, Cost]:
        """What each part has cost so far; raises SystemExit when one has ended."""
        self._check()
        driver, jvms = self._driver()
        workers = [process for jvm in jvms for process in jvm.children(recursive=True)]
        families = {
            "bridge": [psutil.Process(self._roles["bridge"].pid)],
            "driver": [driver],
            "jvm": jvms,
            "workers": workers,
            **{
                name: _family(server.pid)
                for name, server in (
                    ("postgresql", self.timescale),
                    ("kafka", self.kafka),
                    ("mosquitto", self.mosquitto),
                )
            },
        }
        return {name: _cost(family, reaped=name in _FORKING) for name, family in families.items()}

    def live_heap_mib(self) -> float:
        """What Spark's JVM holds once it has collected its garbage."""
        return sum(_live_heap_kib(jvm.pid) for jvm in self._driver()[1]) / 1024

    def _driver(self) -> tuple[psutil.Process, list[psutil.Process]]:
        """The stream's Python, and its JVM."""
        driver = psutil.Process(self._roles["stream"].pid)
        return driver, [child for child in driver.children() if "java" in child.name()]

    def await_stored(self, readings: int, timeout_s: float = _START_S) -> None:
        """Waits until so many readings are committed; raises SystemExit when that takes too long."""

        def stored() -> bool:
            self._check()
            return self.stored() >= readings

        if not wait_until(stored, timeout_s=timeout_s, poll_s=0.5):
            raise SystemExit(f"{self.stored()} of {readings} readings in {timeout_s:g} s: the machine is too slow")

    def _check(self) -> None:
        for name, process in self._roles.items():
            if not process.running:
                raise SystemExit(f"the {name} has ended:\n{process.log_tail(30)}")

    def _start(self) -> None:
        self._ends.enter_context(together(self.mosquitto, self.kafka, self.timescale))
        for topic in (PAYLOAD_TOPIC, DEAD_LETTER_TOPIC):
            self.kafka.create_topic(topic, PARTITIONS)
        superuser = self.timescale.superuser_dsn
        migrate.migrate(superuser, 30)
        roles.allow_login(superuser, "headwater_writer", _PASSWORD, 30)
        servers = [self.kafka.bootstrap_servers]
        bridge = {"mqtt": {"host": "127.0.0.1", "port": self.mosquitto.port}, "kafka": {"bootstrap_servers": servers}}
        self._run("bridge", bridge, {})
        stream = {
            "kafka": {"bootstrap_servers": servers},
            "checkpoint_dir": str(self._directory / "checkpoint"),
            "spark": {"jars_dir": str(connector_jars()[0].parent), "driver_memory": "512m"},
        }
        writer = make_dsn(**(parse_dsn(superuser) | {"user": "headwater_writer", "password": _PASSWORD}))
        self._run("stream", stream | self._stream, {"HEADWATER_DSN": writer, **self._env})
        self._await("bridge", lambda health: bool(health.get("mqtt_connected")))
        self._await("stream", lambda health: health.get("state") == "running")

    def _await(self, role: str, condition: Callable[[Mapping[str, Any]], bool]) -> None:
        def fulfilled() -> bool:
            self._check()
            return condition(self.health(role))

        if not wait_until(fulfilled, timeout_s=_START_S, poll_s=0.2):
            raise SystemExit(f"the {role} does not start:\n{self._roles[role].log_tail(30)}")

    def _run(self, role: str, document: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._health[role] = free_port()
        path = self._directory / f"{role}.yaml"
        path.write_text(yaml.safe_dump({**document, "health": {"port": self._health[role]}}), encoding="utf-8")
        command = Command([sys.executable, "-m", role, "run", str(path)], environment, CHECKOUT)
        process = ManagedProcess(role, command, log_path=self._directory / f"{role}.log")
        process.start()
        self._ends.callback(process.stop)
        self._roles[role] = process


def _family(pid: int | None) -> list[psutil.Process]:
    assert pid is not None  # it runs
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cost(family: list[psutil.Process], *, reaped: bool) -> Cost:
    """Of all of them; `reaped`: and of their children that have ended."""
    cpu_s = pss = rss = 0.0
    for process in family:
        try:
            times, memory = process.cpu_times(), process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        cpu_s += times.user + times.system
        if reaped:
            cpu_s += times.children_user + times.children_system
        pss += memory.pss
        rss += memory.rss
    return Cost(cpu_s, pss / _MIB, rss / _MIB)


def _live_heap_kib(pid: int) -> int:
    """What a JVM's heap holds after a collection of everything, which leaves it to the old generation."""
    jcmd = [str(Path(psutil.Process(pid).exe()).with_name("jcmd")), str(pid)]
    subprocess.run([*jcmd, "GC.run"], stdout=subprocess.DEVNULL, check=True)
    told = subprocess.run([*jcmd, "GC.heap_info"], capture_output=True, text=True, check=True).stdout
    return sum(int(used) for used in re.findall(r"tenured generation .* used (\d+)K", told))
