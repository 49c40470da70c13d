"""The sink of the analysis: it commits each micro-batch's findings, however long the database is away."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import psycopg2

from stream.analysis.sink import Analysed, store
from stream.connection import connect
from stream.errors import FatalError
from stream.ingest.series import MAX_PER_NODE, SeriesDictionary
from stream.ingest.writer import retrying

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection, cursor

    from stream.analysis.findings import Findings
    from stream.ingest.sink import BatchKey
    from stream.progress import Progress

logger = logging.getLogger(__name__)

_TELL_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Session:
    opened: connection
    series: SeriesDictionary


class AnalysisWriter:
    """Commits findings, each batch's once. Used by one thread at a time: Spark's callback."""

    def __init__(
        self,
        dsn: str,
        topic: str,
        stop: threading.Event,
        progress: Progress,
        first: Callable[[cursor], None] | None = None,
        *,
        max_series_per_node: int = MAX_PER_NODE,
    ) -> None:
        """`first` is done in the transaction of the first batch of a query."""
        self.dsn = dsn
        self._topic = topic
        self._stop = stop
        self._first = first
        self._max_series_per_node = max_series_per_node
        self.progress = progress
        self._session: _Session | None = None
        self._log = _Log()
        self.failure: FatalError | None = None
        """Why it cannot go on; Spark passes exceptions on as text only."""

    def write(self, key: BatchKey, found: Findings) -> None:
        """Commit the shards' findings; waits for a database that is away. Raises FatalError, or StopRequested."""
        try:
            analysed = retrying(lambda: self._try(key, found), self._stop, self.progress)
        except FatalError as exc:
            self.failure = exc
            raise
        self._log.batch(key, analysed)
        self.progress.note(analysed.bars + analysed.trends + analysed.anomalies if analysed else 0)

    def tell(self) -> None:
        """Log the line of each minute when it is time; of any thread."""
        self._log.tell(self.progress)

    def close(self) -> None:
        """Close the connection."""
        if self._session:
            with suppress(psycopg2.Error):
                self._session.opened.close()
        self._session = None

    def _try(self, key: BatchKey, found: Findings) -> Analysed | None:
        first = None if key.batch_id else self._first
        ends = zip(found.ends.kafka_partition.tolist(), found.ends.kafka_end.tolist(), strict=True)
        # A partition has records in several shards, which go as far as these went.
        offsets = {self._topic: {str(partition): end for partition, end in sorted(ends)}}
        try:
            if self._session is None:
                opened = connect(self.dsn)
                self._session = _Session(opened, SeriesDictionary(opened, max_per_node=self._max_series_per_node))
            return store(self._session.opened, self._session.series, key, offsets, found, first)
        except BaseException:
            self.close()
            raise


class _Log:
    """What an operator is told: the first commit, and a line a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # batches end in Spark's callback, the minute in the supervisor's loop
        self._since = time.monotonic()
        self._is_first = True
        self._sum = Analysed()

    def batch(self, key: BatchKey, analysed: Analysed | None) -> None:
        if analysed is None:
            logger.info("batch %d was analysed before the last stop: skipped", key.batch_id)
            return
        if self._is_first:
            logger.info("first batch of this run (%d) analysed: %s", key.batch_id, _figures(analysed))
            self._is_first = False
        with self._lock:
            names = [each.name for each in fields(Analysed)]
            self._sum = Analysed(*(getattr(self._sum, name) + getattr(analysed, name) for name in names))

    def tell(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if (past_s := now_s - self._since) < _TELL_EVERY_S:
            return
        with self._lock:
            told, self._sum, self._since = self._sum, Analysed(), now_s
        lag = "not known" if progress.lag is None else f"{progress.lag} records"
        logger.info("in the last %.0f s: %s; lag %s", past_s, _figures(told), lag)
        if told.left_out:
            logger.warning("%d readings were not analysed: more series than analysis.max_series", told.left_out)


def _figures(analysed: Analysed) -> str:
    return (
        f"{analysed.readings} readings, {analysed.late} of them late, gave {analysed.bars} bars, "
        f"{analysed.trends} trends, {analysed.anomalies} rows of anomalies"
    )
