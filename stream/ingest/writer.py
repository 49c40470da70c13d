"""The sink that Spark calls: it commits each micro-batch, however long the database is away."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg2

from stream.connection import connect
from stream.errors import DatabaseAway, FatalError, StopRequested
from stream.ingest.series import MAX_PER_NODE, SeriesDictionary
from stream.ingest.sink import Stored, store
from stream.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection

    from stream.ingest.batch import Batch, Offsets
    from stream.ingest.sink import BatchKey

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_FIRST_DELAY_S: Final = 0.25
_LONGEST_DELAY_S: Final = 5.0
_TELL_EVERY_S: Final = 60.0
_WARN_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Session:
    opened: connection
    series: SeriesDictionary


class Writer:
    """Commits micro-batches, each once. Used by one thread at a time: Spark's callback."""

    def __init__(
        self,
        dsn: str,
        stop: threading.Event,
        progress: Progress | None = None,
        *,
        max_series_per_node: int = MAX_PER_NODE,
    ) -> None:
        self._dsn = dsn
        self._max_series_per_node = max_series_per_node
        self._stop = stop
        self.progress = progress or Progress()
        self._session: _Session | None = None
        self._log = _Log()
        self.stored: Offsets = {}
        """Where the newest batch of this run ends."""
        self.failure: FatalError | None = None
        """Why the stream cannot go on; Spark passes exceptions on as text only."""

    def write(self, key: BatchKey, batch: Batch) -> None:
        """Commit a batch; waits for a database that is away. Raises FatalError, or StopRequested while waiting."""
        try:
            stored = retrying(lambda: self._try(key, batch), self._stop, self.progress)
            self.stored = batch.offsets()
            self.progress.stored_to = max(self.progress.stored_to or 0, batch.newest_ms() or 0) or None
            self._log.batch(key, stored)
            self.progress.committed(stored)
        except FatalError as exc:
            self.failure = exc
            raise

    def tell(self) -> None:
        """Log the line of each minute when it is time; of any thread."""
        self._log.tell(self.progress)

    def close(self) -> None:
        """Close the connection."""
        if self._session:
            with suppress(psycopg2.Error):
                self._session.opened.close()
        self._session = None

    def _try(self, key: BatchKey, batch: Batch) -> Stored | None:
        try:
            if self._session is None:
                opened = connect(self._dsn)
                self._session = _Session(opened, SeriesDictionary(opened, max_per_node=self._max_series_per_node))
            return store(self._session.opened, self._session.series, key, batch, self.progress.lag)
        except BaseException:
            self.close()
            raise


def retrying(attempt: Callable[[], Result], stop: threading.Event, progress: Progress) -> Result:
    """The attempt's result, once the database is there for it; tells of an absence once, and of its end once."""
    delay_s, away_since = _FIRST_DELAY_S, 0.0
    while True:
        try:
            result = attempt()
        except DatabaseAway as exc:
            if not away_since:
                away_since = time.monotonic()
                progress.database, progress.database_away_since = "away", time.time_ns() // 1_000_000
                logger.warning("the database is away, nothing is lost, trying until it is back: %s", exc)
            if stop.wait(delay_s):
                raise StopRequested("stopped while the database was away") from exc
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
        else:
            if away_since:
                progress.database, progress.database_away_since = "ok", None
                waiting = "" if progress.lag is None else f"; {progress.lag} records wait"
                logger.info("the database is back after %.1f s%s", time.monotonic() - away_since, waiting)
            return result


class _Log:
    """What an operator is told: the first commit, a line a minute, and dead letters at most every ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # batches end in Spark's callback, the minute in the supervisor's loop
        self._since = time.monotonic()
        self._warned_at = -_WARN_EVERY_S
        self._batches = 0
        self._sum = Stored()
        self._unwarned = 0

    def batch(self, key: BatchKey, stored: Stored | None) -> None:
        if stored is None:
            logger.info("batch %d was stored before the last stop: skipped", key.batch_id)
            return
        if not self._batches:
            logger.info("first batch of this run (%d) committed: %s", key.batch_id, _figures(stored))
        logger.debug("batch %d: %s", key.batch_id, _figures(stored))
        self._batches += 1
        with self._lock:
            self._add(stored)
        self._warn(stored)

    def tell(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if (past_s := now_s - self._since) < _TELL_EVERY_S:
            return
        with self._lock:
            told, self._sum, self._since = self._sum, Stored(), now_s
        logger.info(
            "in the last %.0f s: %s; lag %s; database %s, Kafka %s",
            past_s,
            _figures(told),
            _lag(progress),
            _reach(progress),
            progress.kafka,
        )

    def _add(self, stored: Stored) -> None:
        self._sum = Stored(
            readings=self._sum.readings + stored.readings,
            texts=self._sum.texts + stored.texts,
            clips=self._sum.clips + stored.clips,
            duplicates=self._sum.duplicates + stored.duplicates,
            dead_letters=self._sum.dead_letters + stored.dead_letters,
            records=self._sum.records + stored.records,
            latency=stored.latency or self._sum.latency,
        )

    def _warn(self, stored: Stored) -> None:
        self._unwarned += stored.dead_letters
        if self._unwarned and time.monotonic() - self._warned_at >= _WARN_EVERY_S:
            logger.warning("%d set aside in dead_letter; the last: %s", self._unwarned, stored.last_reason)
            self._unwarned, self._warned_at = 0, time.monotonic()


def _lag(progress: Progress) -> str:
    if progress.lag is None:
        return "not known"
    behind_s = progress.behind_s()
    return f"{progress.lag} records" + (f" and {behind_s:.0f} s" if behind_s else "")


def _reach(progress: Progress) -> str:
    since_ms = progress.database_away_since
    return progress.database if since_ms is None else f"away for {time.time() - since_ms / 1000:.0f} s"


def _figures(stored: Stored) -> str:
    clips = f", {stored.clips} frames" if stored.clips else ""
    latency = f", latency p50 {stored.latency.p50:.0f} ms p99 {stored.latency.p99:.0f} ms" if stored.latency else ""
    return (
        f"{stored.readings} readings, {stored.texts} texts{clips}, {stored.duplicates} delivered again, "
        f"{stored.dead_letters} set aside{latency}"
    )
