"""The parts of a demo as one system: started in order, watched over, drained, stopped."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

import yaml

from stack.demo import configs, models, positions
from stack.demo.layout import NODES, Layout, Ports
from stack.demo.observe import TOPICS, Observer, healthz
from stack.demo.roles import ROOT, processes_below, run_role, write_document
from stack.demo.supervisor import Supervisor
from stack.errors import ServerError, StackError
from stack.install import connector_jars
from stack.kafka import Kafka
from stack.mosquitto import Mosquitto
from stack.process import Command, ManagedProcess, wait_until
from stack.server import port_is_taken
from stack.timescale import Timescale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stack.demo.supervisor import Member

MODELS_DIR: Final = ROOT / ".models" / "work"
_SCENARIO: Final = ROOT / "simulators" / "scenarios" / "demo.yaml"
PARTITIONS: Final = 3
# A Spark job whose servers were killed with it gives up after that.
_LEAVE_S: Final = 45.0
_STOP_ORDER: Final = (*NODES, "simulators", "stream", "maintenance", "bridge", "mosquitto", "kafka", "timescaledb")


@dataclass(slots=True)
class Settings:
    """What may differ from one demo to the next."""

    directory: Path
    ports: Ports = field(default_factory=Ports)
    seed: int = 7
    say: Callable[[str], None] = print


class System:
    """A context manager over the whole demo; `supervisor` knows its servers and roles by name.

    Its directory is emptied at the start, so that what the tables hold in the end is what the ledgers say.
    Raises StackError when a member cannot be started.
    """

    def __init__(self, settings: Settings) -> None:
        self.layout = Layout(settings.directory.resolve(), settings.ports)
        self.supervisor = Supervisor()
        self._seed = settings.seed
        self._say = settings.say
        self._token = secrets.token_urlsafe(16)
        ports = settings.ports
        self.mosquitto = Mosquitto(port=ports.mqtt, directory=self.layout.directory / "mosquitto")
        self.kafka = Kafka(port=ports.kafka, directory=self.layout.directory / "kafka")
        self.timescale = Timescale(port=ports.database, directory=self.layout.directory / "timescale")
        self._dsns: dict[str, str] = {}
        self._models: dict[str, Path] = {}
        self._lock: IO[str] | None = None

    def observer(self) -> Observer:
        """Eyes on the running system."""
        return Observer(self.layout, self._dsns["reader"])

    def start(self) -> None:
        """Starts everything; returns when every part runs and every agent has answered."""
        self._take_directory()
        servers = {"mosquitto": self.mosquitto, "kafka": self.kafka, "timescaledb": self.timescale}
        self._say("starting Mosquitto, Kafka, TimescaleDB and the simulators")
        for name, server in servers.items():
            server.launch()
            self.supervisor.watch(name, server)
        self._models = models.link(self.layout, MODELS_DIR)
        self._say("models: " + (", ".join(self._models) or "none, `make models` makes them"))
        self._start_simulators()
        for server in servers.values():
            server.wait_ready()
        for topic in TOPICS:
            self.kafka.create_topic(topic, PARTITIONS)
        self._say("migrating the database")
        self._prepare_database()
        self._say("starting the Spark job and the bridge, then three agents")
        self._start_stream()
        maintainer = {"HEADWATER_DSN": self._dsns["maintainer"]}
        self._add_role("maintenance", "db", ["maintain", "--every", "5"], maintainer)
        self._start_role("bridge", "bridge", configs.bridge(self.layout))
        # Spark takes half a minute of both cores to start. What agents sampled meanwhile would wait for it, and they
        # would wait for each other.
        self._await("the Spark job", self._stream_runs, 120.0)
        self._start_agents()
        self._await("the agents", lambda: all(healthz(port) for port in self.layout.ports.edge_health), 60.0)
        self._await("the bridge", lambda: healthz(self.layout.ports.bridge_health) is not None, 60.0)
        observer = self.observer()
        self._say("waiting for the first rows")
        self._await("the first rows", lambda: bool(observer.ingested().rows), 120.0)

    def _stream_runs(self) -> bool:
        health = healthz(self.layout.ports.stream_health)
        return health is not None and health["state"] == "running"

    def drain(self, timeout_s: float = 180.0) -> None:
        """Stops the agents and waits until all they have sent is committed; raises StackError when it takes too long.

        An agent that is stopped ends its polls, empties its spool and then goes. Whatever dies meanwhile is started
        again, agents too.
        """
        deadline = time.monotonic() + timeout_s
        self._say("draining: the agents stop polling and empty their spools")
        self._within(deadline, self._everything_runs, lambda: "some part does not come up again")
        agents = dict(zip(NODES, self.supervisor.release(NODES), strict=True))
        try:
            self._end_agents(agents, deadline)
        finally:
            for agent in agents.values():
                agent.kill()
        self._say("draining: the Spark job commits what is left in Kafka")
        observer = self.observer()

        def committed() -> bool:
            bridge = healthz(self.layout.ports.bridge_health)
            return bridge is not None and bridge["in_flight"] == 0 and observer.kafka_lag() == 0

        self._within(deadline, committed, lambda: f"Kafka lag is {observer.kafka_lag()} records")
        # The ledgers are complete when their writers have gone.
        self.supervisor.stop(["simulators"])

    def _end_agents(self, agents: Mapping[str, Member], deadline: float) -> None:
        asked: set[str] = set()

        def gone() -> bool:
            for (name, agent), port in zip(agents.items(), self.layout.ports.edge_health, strict=True):
                assert isinstance(agent, ManagedProcess)
                if not agent.running and agent.poll() != 0:
                    # It was killed before it had delivered what it keeps.
                    agent.start()
                    asked.discard(name)
                if agent.running and name not in asked and healthz(port) is not None:
                    agent.request_stop()
                    asked.add(name)
            return not any(agent.running for agent in agents.values())

        self._within(deadline, gone, lambda: "an agent does not end: see its log")

    def _everything_runs(self) -> bool:
        return all(member.running for member in self.supervisor.members.values()) and all(
            health is not None and health["uplink"]["connected"]
            for health in map(healthz, self.layout.ports.edge_health)
        )

    def _within(self, deadline: float, condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        """Waits for a condition, and starts again whatever ends meanwhile; raises StackError at the deadline."""

        def met() -> bool:
            self.supervisor.supervise()
            return condition()

        if not wait_until(met, timeout_s=max(deadline - time.monotonic(), 1.0), poll_s=0.25):
            raise StackError(f"not drained in time: {otherwise()}; logs are in {self.layout.directory / 'logs'}")

    def reconcile(self) -> int:
        """Prints the reconciliation table; returns 0 when nothing was lost, duplicated or wrong."""
        command = [sys.executable, "-m", "simulators", "reconcile", "--targets", str(self.layout.targets)]
        environment = {**os.environ, "HEADWATER_DSN": self._dsns["reader"]}
        return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode  # noqa: S603  # our own role

    def stop(self) -> None:
        """Stops everything that runs, the agents first and the servers last; when interrupted, kills it."""
        self.supervisor.stop(_STOP_ORDER)
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> System:  # noqa: PYI034  # not meant to be subclassed
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _take_directory(self) -> None:
        """Empties the directory and keeps others out; raises StackError when it is in use or not a demo's."""
        directory, mark = self.layout.directory, self.layout.mark
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StackError(f"{directory} cannot be made: {exc.strerror}") from exc
        if not mark.exists() and any(directory.iterdir()):
            raise StackError(
                f"{directory} holds files that no demo made, and a demo empties it: give another directory"
            )
        self._lock = mark.open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StackError(f"a demo runs in {directory}: stop it, or give another with --directory") from exc
        if (left := processes_below(directory)) > 0:
            self._say(f"waiting for {left} processes of a run before, which was killed")
            wait_until(lambda: not processes_below(directory), timeout_s=_LEAVE_S, poll_s=0.5)
        for port in self.layout.ports.all():
            if port_is_taken(port):
                raise StackError(
                    f"port {port} is taken: stop what listens there, or see --free-ports (make demo ARGS=--free-ports)"
                )
        self.timescale.remove()
        for path in directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
        self.layout.ledgers.mkdir()
        self.layout.temporary.mkdir()

    def _start_simulators(self) -> None:
        shipped: configs.Document = yaml.safe_load(_SCENARIO.read_text())
        write_document(self.layout.scenario, configs.scenario(self.layout, self._seed, shipped))
        arguments = ["serve", str(self.layout.scenario), "--addresses", str(self.layout.addresses)]
        simulators = self._add_role("simulators", "simulators", arguments, {configs.TOKEN_ENV: self._token})
        simulators.wait_ready(self.layout.addresses.exists, timeout_s=60.0)

    def _prepare_database(self) -> None:
        owner = {"HEADWATER_DSN": self.timescale.superuser_dsn}
        run_role("db", ["migrate"], owner)
        positions.enter(self.timescale.superuser_dsn)
        for role in ("writer", "reader", "maintainer"):
            password = secrets.token_urlsafe(24)
            run_role("db", ["login", f"headwater_{role}"], owner | {"HEADWATER_DB_PASSWORD": password})
            self._dsns[role] = self.timescale.dsn(user=f"headwater_{role}", password=password)
        self.layout.reader_dsn.touch(mode=0o600)
        self.layout.reader_dsn.write_text(self._dsns["reader"] + "\n")

    def _start_stream(self) -> None:
        forecasting = models.forecasting(self.layout, self._models) if self._models else None
        document = configs.stream(self.layout, str(connector_jars()[0].parent), forecasting)
        self._start_role("stream", "stream", document, {"HEADWATER_DSN": self._dsns["writer"]})

    def _start_agents(self) -> None:
        addresses: dict[str, Any] = json.loads(self.layout.addresses.read_text())
        line_a, line_b = (self._points(units) for units in (configs.LINE_A, configs.LINE_B))
        write_document(self.layout.targets, configs.targets(self.layout, line_a, line_b))
        token = {configs.TOKEN_ENV: self._token}
        for number, sources in enumerate(configs.sources(addresses, line_a, line_b), 1):
            on_device = models.on_device(number, self._models, configs.SYMBOLS)
            self._start_role(f"edge-{number}", "edge", configs.edge(self.layout, number, sources, on_device), token)

    def _points(self, units: tuple[int, ...]) -> list[configs.Document]:
        chosen = [word for unit in units for word in ("--unit", str(unit))]
        printed = run_role("simulators", ["points", str(self.layout.scenario), "plant", *chosen], {})
        document: dict[str, list[configs.Document]] = yaml.safe_load(printed)
        return document["units"]

    def _start_role(
        self, name: str, role: str, document: configs.Document, environment: Mapping[str, str] | None = None
    ) -> None:
        write_document(self.layout.config(name), document)
        self._add_role(name, role, ["run", str(self.layout.config(name))], environment or {})

    def _add_role(self, name: str, role: str, arguments: list[str], environment: Mapping[str, str]) -> ManagedProcess:
        argv = [sys.executable, "-m", role, *arguments]
        # What a killed role leaves in its temporary directory goes with the demo's.
        command = Command(argv, env={"TMPDIR": str(self.layout.temporary), **environment}, cwd=ROOT)
        process = ManagedProcess(name, command, log_path=self.layout.log(name))
        process.start()
        self.supervisor.watch(name, process)
        return process

    def _await(self, what: str, condition: Callable[[], bool], timeout_s: float) -> None:
        """Waits for a condition while nothing has ended; raises ServerError with the log of what has."""

        def ended() -> ManagedProcess | None:
            processes = self.supervisor.members.values()
            return next((p for p in processes if isinstance(p, ManagedProcess) and not p.running), None)

        if wait_until(lambda: ended() is not None or condition(), timeout_s=timeout_s) and ended() is None:
            return
        if (process := ended()) is not None:
            raise ServerError(process.name, f"ended with status {process.poll()}", process.log_path, process.log_tail())
        raise StackError(f"{what} did not come up in {timeout_s:g} s: see {self.layout.directory / 'logs'}")
