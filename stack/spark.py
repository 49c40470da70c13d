"""A Spark standalone cluster: its master and workers as processes, from the installation that pyspark brings.

They need no configuration of Spark's, only its jars. An application connects with `spark://host:port`.
"""

from __future__ import annotations

import json
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from stack.install import Part, java
from stack.process import Command
from stack.server import LOOPBACK, Cluster, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_PACKAGE: Final = "org.apache.spark.deploy"
_REQUEST_TIMEOUT_S: Final = 2.0
# They only keep lists and start executors, which have a JVM of their own.
_HEAP: Final = "192m"


def spark_home() -> Path:
    """Where pyspark is installed."""
    spec = find_spec("pyspark")
    return Path(spec.origin).parent if spec and spec.origin else Path("pyspark")


def _scala_version() -> str:
    """Such as 2.13."""
    found = next((spark_home() / "jars").glob("spark-core_*.jar"), Path("spark-core_2.13-.jar"))
    return found.name.split("_")[1].split("-")[0]


class _Daemon(Server):
    """What the master and a worker share: an address for Spark, and a web page that says how they stand."""

    def __init__(self, *, port: int | None = None, directory: Path | None = None) -> None:
        super().__init__(port=port, directory=directory)
        self.web_port = free_port()

    def state(self) -> dict[str, Any]:
        """What its web page says, as JSON; raises OSError when it does not answer."""
        url = f"http://{LOOPBACK}:{self.web_port}/json/"
        with urllib.request.urlopen(url, timeout=_REQUEST_TIMEOUT_S) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def _ports(self) -> Sequence[int]:
        return [self.port, self.web_port]

    def _parts(self) -> list[Part]:
        return [Part("Java", java()), Part(self.name, spark_home() / "jars")]

    def _prepare(self) -> None:
        for path in (self.data_dir, self.directory / "tmp"):
            path.mkdir(exist_ok=True)

    def _run(self, main: str, *arguments: str) -> Command:
        argv = [str(java()), f"-Xmx{_HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        argv += [f"-Djava.io.tmpdir={self.directory / 'tmp'}", "-cp", f"{spark_home() / 'jars'}/*", main]
        argv += ["--host", LOOPBACK, "--port", str(self.port), "--webui-port", str(self.web_port), *arguments]
        environment = {
            "SPARK_HOME": str(spark_home()),
            # pyspark's copy lacks what Spark would tell it from.
            "SPARK_SCALA_VERSION": _scala_version(),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_LOCAL_DIRS": str(self.data_dir),
        }
        return Command(argv, environment, self.directory)


class SparkMaster(_Daemon):
    """The one that applications ask for executors."""

    name: ClassVar[str] = "Spark master"

    @property
    def url(self) -> str:
        """What `spark.master` says."""
        return f"spark://{self.address}"

    def workers(self) -> int:
        """How many workers it has that are alive; 0 when it does not answer."""
        try:
            return int(self.state()["aliveworkers"])
        except OSError:
            return 0

    def _command(self) -> Command:
        return self._run(f"{_PACKAGE}.master.Master")

    def _probe(self) -> bool:
        try:
            return bool(self.state()["status"] == "ALIVE")
        except OSError:
            return False


class SparkWorker(_Daemon):
    """One that runs executors, each a JVM with Python workers below it, all of which `kill` ends as well.

    `memory_mb` is what its executors' heaps may come to; their Python workers come on top. The executors' logs are in
    `data/app-*/*/`.
    """

    name: ClassVar[str] = "Spark worker"

    def __init__(
        self,
        master: str,
        *,
        cores: int = 1,
        memory_mb: int = 1024,
        port: int | None = None,
        directory: Path | None = None,
    ) -> None:
        super().__init__(port=port, directory=directory)
        self._master = master
        self._cores = cores
        self._memory_mb = memory_mb

    def executors(self) -> int:
        """How many executors run on it; 0 when it does not answer."""
        try:
            return len(self.state()["executors"])
        except OSError:
            return 0

    def _command(self) -> Command:
        size = "--cores", str(self._cores), "--memory", f"{self._memory_mb}m"
        return self._run(f"{_PACKAGE}.worker.Worker", *size, "--work-dir", str(self.data_dir), self._master)

    def _probe(self) -> bool:
        """Whether its master knows it: one that was asked too early is asked again only seconds later."""
        try:
            return bool(self.state()["masterurl"])
        except OSError:
            return False


class SparkCluster(Cluster):
    """A master and its workers."""

    def __init__(self, workers: int = 2, *, cores: int = 1, memory_mb: int = 1024) -> None:
        self.master = SparkMaster()
        self.workers = tuple(SparkWorker(self.master.url, cores=cores, memory_mb=memory_mb) for _ in range(workers))
        super().__init__(self.master, *self.workers)

    @property
    def url(self) -> str:
        """What `spark.master` says."""
        return self.master.url
