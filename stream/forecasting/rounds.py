"""One round over everything that is served, on one connection: what is due is made, landed and scored."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from contract.manifest import AnomalyOutput
from stream.errors import ModelError, StopRequested
from stream.forecasting import cloud, scoring, tables
from stream.forecasting.alarms import Alarms
from stream.forecasting.landing import AHEAD_MS, Landing

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from psycopg2.extensions import connection
    from pyspark.sql import SparkSession

    from stream.forecasting.cloud import Bound
    from stream.forecasting.config import ForecastingConfig
    from stream.forecasting.models import Models
    from stream.forecasting.progress import ForecastingProgress, ModelProgress
    from stream.forecasting.tables import Done
    from stream.forecasting.watched import Watched

logger = logging.getLogger(__name__)

# A model that failed may fail on one window only, and each try costs a Spark job.
_REST_S: Final = 60.0
_SCORE_EVERY_S: Final = 5.0
# In the first round of a connection, and where the loop was held up, this much more than from look to look.
_MARGIN_MS: Final = 600_000
_HOUR_MS: Final = 3_600_000


class Pace:
    """When something is due that is done now and then; the first time at once."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether it is; then it counts as done."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._every_s
        return True

    def hurry(self) -> None:
        """It is due again."""
        self._next = 0.0


class Rounds:
    """Everything that is known of the database over one connection's life."""

    def __init__(
        self,
        spark: SparkSession,
        config: ForecastingConfig,
        opened: connection,
        progress: ForecastingProgress,
        stop: threading.Event,
    ) -> None:
        self._spark = spark
        self._config = config
        self._opened = opened
        self._progress = progress
        self._stop = stop
        self._late_ms = round(config.late_s * 1000)
        forecasters = tables.Forecasters()
        self._forecasters = forecasters
        self._landing = Landing(forecasters, self._late_ms, stop)
        self._alarms = Alarms(self._late_ms)
        self._bounds: Sequence[Bound] = ()
        self._done: dict[str, dict[Watched, Done]] = {}
        self._watch, self._score, self._rescan = (
            Pace(config.watch_s),
            Pace(_SCORE_EVERY_S),
            Pace(config.rescan_s),
        )
        self._resting: dict[str, float] = {}

    def round(self, models: Models) -> bool:
        """Do what is due; whether anything ran in Spark. Raises psycopg2's errors, and StopRequested."""
        if self._watch.is_due():
            if models.look():
                # What is served already is not held up by what is not.
                self._watch.hurry()
            with self._opened.cursor() as cursor:
                self._bounds = models.bounds(cursor)
            self._opened.commit()
        late, is_scored = self._rescan.is_due(), self._score.is_due()
        ran = False
        for bound in self._bounds:
            self._go_on()
            now_ms = time.time_ns() // 1_000_000
            told = self._progress.models[bound.package.title]
            marks = self._marks(bound, now_ms)
            ran = self._make(bound, marks, told) or ran
            self._land(bound, now_ms, told, late=late)
            if is_scored:
                self._score_due(bound, marks, now_ms, told, late=late)
        return ran

    def _go_on(self) -> None:
        """What is done is committed, and the next run goes on from there: a long round must not hold up the stop."""
        if self._stop.is_set():
            raise StopRequested

    def _marks(self, bound: Bound, now_ms: int) -> dict[Watched, int]:
        """Up to when each watched is complete."""
        with self._opened.cursor() as cursor:
            marks = cloud.marks(
                cursor, bound, round(self._config.grace_s * 1000), now_ms - self._late_ms, now_ms + AHEAD_MS
            )
        self._opened.commit()
        return marks

    def _make(self, bound: Bound, marks: Mapping[Watched, int], told: ModelProgress) -> bool:
        """Run the model where windows are due; whether any were."""
        title = bound.package.title
        if not bound.binding.cloud or time.monotonic() < self._resting.get(title, 0.0):
            return False
        done = self._done_of(bound)
        ends = cloud.due(bound, done, marks, self._config.catch_up)
        if not ends:
            return False
        try:
            with self._opened.cursor() as cursor:
                rows = cloud.rows_of(self._spark, cursor, bound, ends, done)
                told.forecasts += cloud.put(cursor, self._forecasters, bound, rows)
            self._opened.commit()
        except ModelError as exc:
            self._opened.rollback()
            self._resting[title] = time.monotonic() + _REST_S
            if told.error is None:
                logger.warning("%s; tried again each minute, the others go on", exc)
            told.error = str(exc)
            return True
        if told.error is not None:
            logger.info("%s gives results again", title)
            told.error = None
        done.update(rows.now or {})
        told.windows += rows.windows
        told.incidents += len(rows.anomalies)
        told.made_to_at = max(each.done_to_ms for each in done.values())
        return True

    def _done_of(self, bound: Bound) -> dict[Watched, Done]:
        name = bound.manifest.name
        if name not in self._done:
            with self._opened.cursor() as cursor:
                self._done[name] = tables.done(cursor, cloud.CLOUD, name)
            self._opened.commit()
        return self._done[name]

    def _land(self, bound: Bound, now_ms: int, told: ModelProgress, *, late: bool) -> None:
        if not bound.results:
            return
        with self._opened.cursor() as cursor:
            if isinstance(bound.manifest.output, AnomalyOutput):
                told.incidents += self._alarms.land(cursor, bound, now_ms, late=late)
            else:
                told.forecasts += self._landing.land(cursor, bound, now_ms, late=late)
        self._opened.commit()

    def _score_due(
        self, bound: Bound, marks: Mapping[Watched, int], now_ms: int, told: ModelProgress, *, late: bool
    ) -> None:
        """Score what has come due since the last look, or with `late` within all of `late_s`."""
        if not bound.manifest.targets:
            return
        with self._opened.cursor() as cursor:
            who = scoring.forecasters(cursor, bound)
            upto = {number: marks[each.watched] for number, each in who.items() if each.watched in marks}
            reach_ms = self._late_ms if late else min(self._late_ms, round(self._config.rescan_s * 1000) + _MARGIN_MS)
            for begin in range(now_ms - reach_ms, now_ms + AHEAD_MS, _HOUR_MS) if upto else ():
                self._go_on()
                end = min(begin + _HOUR_MS, now_ms + AHEAD_MS)
                told.scored += scoring.score_span(cursor, bound, who, upto, begin, end)
        self._opened.commit()
