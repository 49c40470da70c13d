"""One run of the stream: signals, the database's check, Spark, and the parts of the job beside each other."""

from __future__ import annotations

import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from py4j.protocol import Py4JNetworkError  # type: ignore[import-untyped]  # py4j publishes no types

from contract.health import HealthServer
from stream.analysis.job import Analysis, checkpoint_dir
from stream.analysis.writer import AnalysisWriter
from stream.connection import check_tables
from stream.errors import FatalError, StopRequested
from stream.forecasting.progress import ForecastingProgress
from stream.forecasting.run import Forecasting
from stream.ingest.arriving import warm_up
from stream.ingest.writer import Writer, retrying
from stream.progress import Progress
from stream.query import Ingest, Supervisor
from stream.scratch import scratch_dir
from stream.session import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pyspark.sql import SparkSession

    from stream.config import StreamConfig

logger = logging.getLogger(__name__)

Part: TypeAlias = Literal["ingest", "analysis", "forecasting"]
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 60.0
_POLL_S: Final = 0.1


def run(config: StreamConfig, *, once: bool, only: Part | None = None) -> None:
    """Run until SIGTERM or SIGINT, or with `once` until what Kafka holds now is stored and analysed.

    `only` one part is run, or all that are configured. Raises ConfigError and FatalError.
    """
    job = Job(config, config.database.dsn(), tuple(_wanted(config, once=once, only=only)))
    _stop_on_signals(job.stop)
    try:
        with ExitStack() as stack:
            if config.health is not None:
                stack.enter_context(_health_server(config.health.port, job))
            job.run(once=once)
    except StopRequested:
        pass
    logger.info("stopped")


def _wanted(config: StreamConfig, *, once: bool, only: Part | None) -> Iterator[Part]:
    configured = {"ingest": True, "analysis": config.analysis, "forecasting": config.forecasting and not once}
    if only is not None and not configured[only]:
        raise FatalError(f"--only {only}: {'it has no end, so not with --once' if once else 'it is not configured'}")
    for part, is_there in configured.items():
        if is_there and only in {None, part}:
            yield part  # type: ignore[misc]  # the keys above


@dataclass(slots=True)
class Job:
    """Some parts of the stream, in one Spark."""

    config: StreamConfig
    dsn: str
    parts: tuple[Part, ...]
    stop: threading.Event = field(default_factory=threading.Event)
    ingest: Progress = field(default_factory=Progress)
    analysis: Progress = field(default_factory=Progress)
    forecasting: ForecastingProgress = field(default_factory=ForecastingProgress)

    def document(self) -> dict[str, object]:
        """How it stands, as JSON takes it: the ingest's at the top."""
        documents: dict[str, dict[str, object]] = {part: getattr(self, part).document() for part in self.parts}
        return {**documents.pop("ingest", {}), **documents}

    def run(self, *, once: bool) -> None:
        """Run all parts until the stop event, or until each is done. Raises FatalError, StopRequested."""
        progress = self.analysis if self.parts == ("analysis",) else self.ingest
        retrying(lambda: check_tables(self.dsn), self.stop, progress)
        with ExitStack() as stack:
            scratch, *_ = [stack.enter_context(scratch_dir(self._place(part))) for part in self.parts]
            spark = start(self.config.spark, scratch)
            # Spark has put a handler of its own in place of ours: it would break off what the batches are doing.
            _stop_on_signals(self.stop)
            brokers = ", ".join(self.config.kafka.bootstrap_servers)
            logger.info(
                "%s: reading Kafka at %s, checkpoint %s", ", ".join(self.parts), brokers, self.config.checkpoint_dir
            )
            self._run_together(spark, once=once)
            spark.stop()

    def _place(self, part: Part) -> str:
        """What there may be only one of: the checkpoint."""
        places = {"ingest": self.config.checkpoint_dir, "analysis": checkpoint_dir(self.config)}
        return places.get(part, f"{self.config.checkpoint_dir}-{part}")

    def _run_together(self, spark: SparkSession, *, once: bool) -> None:
        """A thread for each part; the end of one by a FatalError is the end of all."""
        runs = {"ingest": self._run_ingest, "analysis": self._run_analysis, "forecasting": self._run_forecasting}
        with ThreadPoolExecutor(len(self.parts), "stream") as threads:
            done = [threads.submit(self._until_fatal, partial(runs[part], spark, once=once)) for part in self.parts]
        for part in done:
            part.result()

    def _until_fatal(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException:
            self.stop.set()
            raise

    def _run_ingest(self, spark: SparkSession, *, once: bool) -> None:
        warm_up(spark, self.config.limits.limits())
        most = self.config.limits.max_series_per_node
        with (
            closing(Writer(self.dsn, self.stop, self.ingest, max_series_per_node=most)) as writer,
            closing(Ingest(spark, self.config, writer)) as query,
        ):
            Supervisor(spark, query, self.stop, self.config.stop_timeout_s).run(once=once)

    def _after(self, *parts: Part) -> None:
        """Wait until these run, or the stop: starting takes each of them all cores, and readings go first."""
        waited_for = [getattr(self, part) for part in parts if part in self.parts]
        while any(each.state == "starting" for each in waited_for) and not self.stop.wait(_POLL_S):
            pass

    def _run_analysis(self, spark: SparkSession, *, once: bool) -> None:
        assert self.config.analysis is not None  # or it were no part
        if not once:
            self._after("ingest")
        topic, most = self.config.topics.payloads, self.config.limits.max_series_per_node
        writing = AnalysisWriter(self.dsn, topic, self.stop, self.analysis, max_series_per_node=most)
        with closing(writing) as writer:
            query = Analysis(spark, self.config, self.config.analysis, writer)
            Supervisor(spark, query, self.stop, self.config.stop_timeout_s).run(once=once)

    def _run_forecasting(self, spark: SparkSession, *, once: bool) -> None:
        """Again and again, whatever it ends by: readings do not wait for what is made of them."""
        assert self.config.forecasting is not None  # or it were no part
        assert not once
        self._after("ingest", "analysis")
        delay_s = _FIRST_DELAY_S
        while not self.stop.is_set():
            try:
                Forecasting(spark, self.config.forecasting, self.dsn, self.stop, self.forecasting).run()
            except FatalError:
                raise
            except (Py4JNetworkError, ConnectionError) as exc:
                raise FatalError(f"the Spark JVM ended: start the stream again ({exc})") from exc
            except Exception:
                if not self.stop.is_set():
                    logger.exception("forecasting failed, and is tried again in %.0f s", delay_s)
                self.stop.wait(delay_s)
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)


def _health_server(port: int, job: Job) -> HealthServer:
    try:
        return HealthServer(port, job.document)
    except OSError as exc:
        raise FatalError(f"health.port {port} cannot be had: {exc.strerror}") from exc


def _stop_on_signals(stop: threading.Event) -> None:
    def request_stop(number: int, _frame: FrameType | None) -> None:
        logger.info("%s: finishing the batch in hand", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
