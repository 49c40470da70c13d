"""The Spark session: a JVM that outlives our signals and dies with us, and our code shipped to the executors."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from py4j.protocol import Py4JError  # type: ignore[import-untyped]  # py4j publishes no types
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

import contract
import stream
from stream.errors import FatalError

if TYPE_CHECKING:
    from stream.config import SparkConfig

_LOG_SETTINGS: Final = Path(__file__).with_name("log4j2.properties")

# RocksDB's memory is shared out among so many pools, each of which keeps the most that any of the JVM's 300 threads
# ever took of it: with sixteen it is longer until that grows no more. More pools make nothing faster here.
_MALLOC_ARENAS: Final = "2"
# Two cores run everything here, and each micro-batch is small: what pays on a large cluster only costs.
_LEAN: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.retainedJobs": "20",
    "spark.ui.retainedStages": "20",
    "spark.ui.retainedTasks": "200",
    "spark.sql.ui.retainedExecutions": "20",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.streaming.numRecentProgressUpdates": "2",
    "spark.sql.streaming.minBatchesToRetain": "20",
    "spark.sql.session.timeZone": "UTC",
    "spark.python.worker.reuse": "true",
    # Tasks of one query do not wait for all of another's.
    "spark.scheduler.mode": "FAIR",
    # A payload can be a megabyte: a batch to Python is bounded in bytes, too.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(32 << 20),
    # What tasks make is bounded as they make it, and handed on at once. By Spark's own bound, a gigabyte for all tasks
    # of a micro-batch together, one with many camera frames would fail, and fail again.
    "spark.driver.maxResultSize": "0",
    # What a worker's arrays take it keeps for the next ones, up to so much: to ask the system for it each time took a
    # sixth of the decoding.
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "spark.executorEnv.MALLOC_ARENA_MAX": _MALLOC_ARENAS,
    # A query that hangs on a vanished Kafka is interrupted, and we go on.
    "spark.sql.streaming.stopTimeout": "15s",
}
_LOCAL: Final = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # On a local disk the default one starts a process (readlink) for each look at a file: sixteen in a micro-batch.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
}
_JVM_OPTIONS: Final = (
    f"-Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()}",
    # One collector thread, and no second compiler tier: a third of the CPU time up to the first commit saved, and
    # the hot loops are in Python and PostgreSQL anyway.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # Payloads and what becomes of them die young: with room for a few tasks' they do so before they are moved to
    # where only a collection of everything finds them, which took a quarter of the JVM's time.
    "-XX:NewRatio=1",
    # Nor is everything looked through while Spark's classes are loaded.
    "-XX:MetaspaceSize=160m",
)


def start(config: SparkConfig, scratch: Path) -> SparkSession:
    """A session; `scratch` takes its temporary files and the archive of our code. Raises FatalError."""
    jars = sorted(config.jars_dir.resolve().glob("*.jar"))
    if not jars:
        raise FatalError(f"spark.jars_dir {config.jars_dir} holds no jars: `make setup` puts the Kafka connector there")
    archive = archive_code(scratch / "headwater-code.zip")
    settings = {
        **_LEAN,
        "spark.app.name": "headwater stream",
        "spark.master": config.master,
        "spark.driver.memory": config.driver_memory,
        "spark.log.level": config.log_level,
        "spark.jars": ",".join(map(str, jars)),
        "spark.submit.pyFiles": str(archive),
        "spark.local.dir": str(scratch),
        "spark.driver.extraJavaOptions": " ".join(
            [*_JVM_OPTIONS, f"-Xms{config.driver_memory}", f'"-Djava.io.tmpdir={scratch}"']
        ),
    }
    if config.master.startswith("local"):
        settings |= _LOCAL
        # Otherwise Spark's workers are whichever python3 comes first in PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("MALLOC_ARENA_MAX", _MALLOC_ARENAS)
    conf = SparkConf(loadDefaults=False).setAll(list((settings | config.settings).items()))
    # A session of its own: a signal to our process group, Ctrl-C's among them, must not take the JVM from under a
    # batch. It ends when its stdin does, which is when we end, however that comes.
    gateway = launch_gateway(conf, {"start_new_session": True})  # type: ignore[no-untyped-call]  # pyspark leaves it untyped
    try:
        return SparkSession(SparkContext(conf=conf, gateway=gateway))
    except Py4JError as exc:
        raise FatalError(
            f"Spark at {config.master} does not take us: is it there, and have its workers Java, cores and "
            f"memory for an executor? ({_first_line(exc)})"
        ) from exc


def _first_line(exc: Exception) -> str:
    """Of a Java exception its own words, not the trace behind them."""
    java = getattr(exc, "java_exception", None)
    return str(java if java is not None else exc).strip().partition("\n")[0]


def archive_code(path: Path) -> Path:
    """The packages that the executors need, zipped: their machines need only our dependencies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in (contract, stream):
            root = Path(package.__path__[0])
            for source in sorted(root.rglob("*.py")):
                archive.write(source, Path(root.name, source.relative_to(root)))
    return part.replace(path)
