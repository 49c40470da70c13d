"""One run of the stream: signals, the database's check, Spark, the query."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from contract.health import HealthServer
from stream.connection import check_tables
from stream.errors import FatalError, StopRequested
from stream.ingest.writer import Writer, retrying
from stream.query import Supervisor
from stream.scratch import scratch_dir
from stream.session import start

if TYPE_CHECKING:
    from types import FrameType

    from stream.config import StreamConfig
    from stream.progress import Progress

logger = logging.getLogger(__name__)


def run(config: StreamConfig, *, once: bool) -> None:
    """Run until SIGTERM or SIGINT, or with `once` until what Kafka holds now is stored.

    Raises ConfigError and FatalError.
    """
    stop = threading.Event()
    _stop_on_signals(stop)
    dsn = config.database.dsn()
    writer = Writer(dsn, stop)
    try:
        with ExitStack() as stack:
            if config.health is not None:
                stack.enter_context(_health_server(config.health.port, writer.progress))
            _run(config, writer, stop, once=once)
    except StopRequested:
        pass
    finally:
        writer.close()
    logger.info("stopped")


def _run(config: StreamConfig, writer: Writer, stop: threading.Event, *, once: bool) -> None:
    retrying(lambda: check_tables(config.database.dsn()), stop, writer.progress)
    with scratch_dir(str(config.checkpoint_dir)) as scratch:
        spark = start(config.spark, scratch)
        # Spark has put a handler of its own in place of ours: it would break off what the batch is doing.
        _stop_on_signals(stop)
        brokers = ", ".join(config.kafka.bootstrap_servers)
        logger.info("reading Kafka at %s, checkpoint %s", brokers, config.checkpoint_dir)
        Supervisor(spark, config, writer, stop).run(once=once)
        spark.stop()


def _health_server(port: int, progress: Progress) -> HealthServer:
    try:
        return HealthServer(port, progress.document)
    except OSError as exc:
        raise FatalError(f"health.port {port} cannot be had: {exc.strerror}") from exc


def _stop_on_signals(stop: threading.Event) -> None:
    def request_stop(number: int, _frame: FrameType | None) -> None:
        logger.info("%s: finishing the batch in hand", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
