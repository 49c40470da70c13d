"""The loop that runs beside the queries: rounds, for as long as the job runs, however long the database is away."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from stream.connection import connect, translated
from stream.errors import DatabaseAway, StopRequested
from stream.forecasting.models import Models
from stream.forecasting.rounds import Pace, Rounds
from stream.forecasting.told import keep_warm
from stream.workers import own_workers

if TYPE_CHECKING:
    import threading

    from pyspark.sql import SparkSession

    from stream.forecasting.config import ForecastingConfig
    from stream.forecasting.progress import ForecastingProgress
    from stream.workers import Pool

logger = logging.getLogger(__name__)

_POOL: Final[Pool] = "forecasting"
_FIRST_DELAY_S: Final = 0.25
_LONGEST_DELAY_S: Final = 5.0
# Spark ends a pool's Python workers when none of them had any work for a minute; TensorFlow takes 8 s to come back.
_WARM_S: Final = 40.0


class Forecasting:
    """Works from the database alone, so there is no order between it and the queries that fill that."""

    def __init__(
        self,
        spark: SparkSession,
        config: ForecastingConfig,
        dsn: str,
        stop: threading.Event,
        progress: ForecastingProgress,
    ) -> None:
        self._spark = spark
        self._config = config
        self._dsn = dsn
        self._stop = stop
        self._progress = progress
        self._models = Models(spark, config, progress)
        self._away_since: float | None = None
        self._warm = Pace(_WARM_S)

    def run(self) -> None:
        """Run until the stop event; waits for a database that is away. Raises FatalError."""
        self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", _POOL)
        with own_workers(self._spark, _POOL):
            self._run()
        self._progress.state = "stopping"

    def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._stop.is_set():
            try:
                self._connected()
            except StopRequested:
                break
            except DatabaseAway as exc:
                if self._away_since is None:
                    delay_s, self._away_since = _FIRST_DELAY_S, time.monotonic()
                    self._progress.database = "away"
                    logger.warning("the database is away, windows are made up for when it is back: %s", exc)
                self._stop.wait(delay_s)
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _connected(self) -> None:
        """Rounds over one connection; raises DatabaseAway when that ends."""
        with closing(connect(self._dsn)) as opened, translated(opened):
            rounds = Rounds(self._spark, self._config, opened, self._progress, self._stop)
            while not self._stop.is_set():
                began = time.monotonic()
                ran = rounds.round(self._models)
                self._works(time.monotonic() - began)
                if self._warm.is_due() and not ran and self._progress.models:
                    keep_warm(self._spark)
                self._stop.wait(max(0.0, began + self._config.poll_s - time.monotonic()))

    def _works(self, took_s: float) -> None:
        self._progress.state, self._progress.round_s = "running", round(took_s, 3)
        if self._away_since is not None:
            logger.info("the database is back after %.1f s", time.monotonic() - self._away_since)
            self._progress.database, self._away_since = "ok", None
