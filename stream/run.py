"""One run of the stream: signals, the database's check, Spark, the query."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from stream.connection import check_tables
from stream.errors import StopRequested
from stream.query import Supervisor
from stream.session import start
from stream.writer import Writer, retrying

if TYPE_CHECKING:
    from types import FrameType

    from stream.config import StreamConfig

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
        retrying(lambda: check_tables(dsn), stop)
        with tempfile.TemporaryDirectory(prefix="headwater-stream-") as work_dir:
            spark = start(config.spark, Path(work_dir))
            # Spark has put a handler of its own in place of ours: it would break off what the batch is doing.
            _stop_on_signals(stop)
            logger.info("reading Kafka at %s, checkpoint %s", config.kafka.bootstrap_servers, config.checkpoint_dir)
            Supervisor(spark, config, writer, stop).run(once=once)
            spark.stop()
    except StopRequested:
        pass
    finally:
        writer.close()
    logger.info("stopped")


def _stop_on_signals(stop: threading.Event) -> None:
    def request_stop(number: int, _frame: FrameType | None) -> None:
        logger.info("%s: finishing the batch in hand", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
