"""Where set-up put the servers, and whether it did."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from stack.errors import NotInstalledError

CHECKOUT = Path(__file__).resolve().parent.parent
STACK_DIR = CHECKOUT / ".stack"
RUN_DIR = STACK_DIR / "run"
MOSQUITTO = STACK_DIR / "mosquitto/usr/sbin/mosquitto"
KAFKA_LIB = STACK_DIR / "kafka/lib"
SPARK_JARS = STACK_DIR / "spark/jars"
_POSTGRES = Path("/usr/lib/postgresql")
_POSTGRES_SHARE = Path("/usr/share/postgresql")


@dataclass(frozen=True, slots=True)
class Part:
    """One installed thing: what it is, where it is, and whether it is there."""

    name: str
    path: Path

    @property
    def installed(self) -> bool:
        """Whether its file or folder is there."""
        return self.path.exists()

    def required(self) -> Path:
        """Its path; raises NotInstalledError when it is not there."""
        if not self.installed:
            raise NotInstalledError(self.name, self.path)
        return self.path


def postgres_bin() -> Path:
    """The newest PostgreSQL server's programs, as set-up chooses it too."""
    found = [path.parent for path in _POSTGRES.glob("*/bin/postgres")]
    return max(found, key=lambda path: int(path.parent.name), default=_POSTGRES / "15/bin")


def timescaledb_control() -> Path:
    """The file by which PostgreSQL knows the extension timescaledb."""
    return _POSTGRES_SHARE / postgres_bin().parent.name / "extension/timescaledb.control"


def java() -> Path:
    """The java on the PATH."""
    return Path(shutil.which("java") or "/usr/bin/java")


def parts() -> list[Part]:
    """Everything that the servers and Spark need."""
    return [
        Part("Mosquitto", MOSQUITTO),
        Part("Java", java()),
        Part("Kafka", KAFKA_LIB),
        Part("PostgreSQL", postgres_bin() / "postgres"),
        Part("TimescaleDB", timescaledb_control()),
        Part("Spark's Kafka connector", SPARK_JARS),
    ]


def connector_jars() -> list[Path]:
    """The jars that a Spark session needs in `spark.jars` to read Kafka; raises NotInstalledError."""
    return sorted(Part("Spark's Kafka connector", SPARK_JARS).required().glob("*.jar"))
