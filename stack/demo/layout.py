"""Where everything of a demo is: its files and its ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stack.server import free_port

if TYPE_CHECKING:
    from pathlib import Path

GROUP: Final = "demo"
NODES: Final = ("edge-1", "edge-2", "edge-3")


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of a demo; the fixed ones are what the README's commands use."""

    mqtt: int = 21883
    kafka: int = 29092
    database: int = 25432
    bridge_health: int = 28080
    stream_health: int = 28084
    # Where there is a Grafana: without its port a demo does without it.
    grafana: int = 23000
    # edge-1 has the first, edge-2 the next, and so on.
    edge_health: tuple[int, ...] = (28081, 28082, 28083)

    def all(self) -> tuple[int, ...]:
        """Every one that a demo needs."""
        return self.mqtt, self.kafka, self.database, self.bridge_health, self.stream_health, *self.edge_health

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody uses now, for a demo beside another."""
        return cls(
            mqtt=free_port(),
            kafka=free_port(),
            database=free_port(),
            bridge_health=free_port(),
            stream_health=free_port(),
            grafana=free_port(),
            edge_health=tuple(free_port() for _ in NODES),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a demo, all below one directory that belongs to it alone."""

    directory: Path
    ports: Ports

    @property
    def mark(self) -> Path:
        """The file that says that the directory is a demo's, and may be emptied by the next; locked while one runs."""
        return self.directory / ".headwater-demo"

    @property
    def scenario(self) -> Path:
        """What the simulators simulate."""
        return self.directory / "scenario.yaml"

    @property
    def addresses(self) -> Path:
        """Where the simulators listen, written by them when they do."""
        return self.directory / "addresses.json"

    @property
    def ledgers(self) -> Path:
        """What the simulators served."""
        return self.directory / "ledgers"

    @property
    def temporary(self) -> Path:
        """The roles' TMPDIR."""
        return self.directory / "tmp"

    @property
    def targets(self) -> Path:
        """Which ledger belongs to which device."""
        return self.directory / "targets.yaml"

    @property
    def reader_dsn(self) -> Path:
        """A connection string that may only read, for psql; readable by its owner alone."""
        return self.directory / "reader.dsn"

    @property
    def grafana(self) -> Path:
        """Grafana's log, data and administrator's password."""
        return self.directory / "grafana"

    @property
    def models(self) -> Path:
        """The packages of models that are served, each a link to where it was made."""
        return self.directory / "models"

    def config(self, role: str) -> Path:
        """A role's configuration."""
        return self.directory / f"{role}.yaml"

    def log(self, role: str) -> Path:
        """A role's log."""
        return self.directory / "logs" / f"{role}.log"

    def state(self, role: str) -> Path:
        """What a role keeps over restarts: a spool, a checkpoint."""
        return self.directory / "state" / role
