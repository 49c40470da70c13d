"""The supervising loop of one source: poll on schedule, survive every failure, tell each outage once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from edge.batch import failed_poll
from edge.errors import SourceError
from edge.schedule import BACKOFF_CAP_S, Schedule, backoff_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from contract.datatypes import Value
    from edge.reading import Reading
    from edge.sources.base import Clock, Source, SourceConfig

logger = logging.getLogger(__name__)

_LAST_VALUES: Final = 8
_NS_PER_S: Final = 1_000_000_000
_FIRST_READING_S: Final = 0.05
_METRIC: Final = attrgetter("metric")
_VALUE: Final = attrgetter("value")
_SAMPLED_AT_MS: Final = attrgetter("sampled_at_ms")


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll brought, or the bad readings that stand for one that failed; times are UTC ms."""

    source: str
    readings: Sequence[Reading]
    started_ms: int
    finished_ms: int


@dataclass(slots=True)
class SourceStatus:
    """What is known of a source in this run."""

    state: str = "starting"
    polls: int = 0
    failures: int = 0
    readings: int = 0
    skipped_ticks: int = 0
    last_sampled_at_ms: int | None = None
    last: dict[str, object] = field(default_factory=dict)
    error: str | None = None
    writes: int = 0
    restarts: int = 0
    details: Mapping[str, float | str] = field(default_factory=dict)

    def note(self, readings: Sequence[Reading]) -> None:
        """Takes in the readings of a poll."""
        if not readings:
            return
        self.readings += len(readings)
        # A loop over all of them would cost as much as decoding them.
        self.last_sampled_at_ms = max(self.last_sampled_at_ms or 0, *set(map(_SAMPLED_AT_MS, readings)))
        latest = dict(zip(map(_METRIC, readings), map(_VALUE, readings), strict=True))
        for name in (*self.last, *islice(latest, _LAST_VALUES)):
            if name in latest and (name in self.last or len(self.last) < _LAST_VALUES):
                self.last[name] = latest[name]


class Poller:
    """Polls one source until it is told to stop; `keep` is given every reading at once and must not block."""

    def __init__(
        self, source: SourceConfig, keep: Callable[[Poll], None], now_ms: Clock, *, jitter_s: float = 0.0
    ) -> None:
        self.source = source
        self.status = SourceStatus()
        self._keep = keep
        self._now_ms = now_ms
        self._jitter_s = jitter_s
        self._stopping = asyncio.Event()
        self._failures_in_a_row = 0
        self._schedule = Schedule.starting(time.monotonic_ns(), source.interval_s)
        self._tick = self._schedule.first
        self._open: Source | None = None
        self._told_of = {"source": source.name}
        self._opened_s = math.inf
        self._due_s = math.inf
        self._task: asyncio.Task[None] | None = None
        self._is_cut = False

    @property
    def overdue_s(self) -> float:
        """How long ago the present step should have ended by its own time-out, s; below 0 while there is time left."""
        return time.monotonic() - self._due_s

    def stop(self) -> None:
        """No new poll begins; one in flight ends within its time-out, and `run` returns after it."""
        self._stopping.set()

    def cut(self) -> bool:
        """Cuts off what the source is at, which does not keep to its time-out; False where that was done already.

        It is opened again later.
        """
        if self._task is None or self._is_cut:
            return False
        self._is_cut = True
        self._task.cancel()
        return True

    async def run(self) -> None:
        """Polls; returns only after `stop`. Whatever a source raises is told, waited out, and tried again."""
        self._task = asyncio.current_task()
        while not self._stopping.is_set():
            try:
                await self._poll_until_it_fails()
            except asyncio.CancelledError:
                if not self._is_cut or (self._task is not None and self._task.cancelling() > 1):
                    raise
                self._failed("hung beyond its time-out, and was cut off")
            self._forget_cut()

    async def _poll_until_it_fails(self) -> None:
        try:
            await self._poll_while_it_works()
        except TimeoutError:
            self._failed(f"no answer within {self.source.timeout_s:g} s")
        except SourceError as exc:
            self._failed(str(exc))
        except Exception as exc:
            logger.debug("%s", self.source.name, exc_info=True)
            self._failed(f"unexpected {type(exc).__name__}: {exc}")
        if not self._stopping.is_set():
            await self._pause(self._backoff_s())

    def _forget_cut(self) -> None:
        if self._is_cut and self._task is not None:
            self._is_cut = False
            self._task.uncancel()
            self.status.restarts += 1

    async def write(self, metric: str, value: Value) -> Reading:
        """Sets a metric and reads it back, while polls go on; raises SourceError or TimeoutError."""
        if self._open is None:
            raise SourceError(f"{self.source.name} is not open: {self.status.error or self.status.state}")
        self.status.writes += 1
        async with asyncio.timeout(self.source.timeout_s):
            return await self._open.write(metric, value)

    async def poll_once(self) -> Poll:
        """Opens the source and polls it until it has a reading; raises SourceError or TimeoutError."""
        async with self._opened() as source, asyncio.timeout(self.source.timeout_s):
            # A camera has none before its first frame.
            while not (poll := await self._poll(source)).readings:  # noqa: ASYNC110 - a source is asked, it tells nobody
                await asyncio.sleep(_FIRST_READING_S)
            return poll

    async def _poll_while_it_works(self) -> None:
        async with self._opened() as source:
            while not self._stopping.is_set():
                await self._pause(self._until_tick_s())
                if not self._stopping.is_set():
                    self._succeeded(await self._poll(source))

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Source]:
        """The source, opened and closed within its time-out: one that hangs in closing is left behind."""
        stack = contextlib.AsyncExitStack()
        async with self._in_time():
            source = await stack.enter_async_context(self.source.open(self._now_ms))
        self._open, self._opened_s = source, time.monotonic()
        try:
            yield source
        finally:
            self._open = None
            closing_ms = self._now_ms()
            try:
                await self._close(stack)
            finally:
                self._keep_remaining(source, closing_ms)

    async def _close(self, stack: contextlib.AsyncExitStack) -> None:
        """A source that fails in closing has brought what it brought: that is no failed poll."""
        try:
            async with self._in_time():
                await stack.aclose()
        except Exception:
            logger.debug("%s: closing", self.source.name, exc_info=True)

    def _keep_remaining(self, source: Source, closing_ms: int) -> None:
        if readings := source.remaining():
            self.status.note(readings)
            self._keep(Poll(self.source.name, readings, closing_ms, self._now_ms()))

    async def _poll(self, source: Source) -> Poll:
        started_ms = self._now_ms()
        try:
            async with self._in_time():
                readings = await source.poll()
        finally:
            self.status.details = source.details()
        return Poll(self.source.name, readings, started_ms, self._now_ms())

    def _succeeded(self, poll: Poll) -> None:
        if self._works(poll):
            if self._failures_in_a_row:
                failures = self._failures_in_a_row
                logger.info("%s: works again after %d failed polls", self.source.name, failures, extra=self._told_of)
            self._failures_in_a_row = 0
            self.status.state, self.status.error = "ok", None
        self._forget_cut()
        self._finish(poll)
        self._tick = self._schedule.after(self._tick, time.monotonic_ns())
        self.status.skipped_ticks += self._tick.skipped

    def _works(self, poll: Poll) -> bool:
        """Whether it has shown that it works: a camera that is away brings nothing for a while, and then fails."""
        return bool(poll.readings) or time.monotonic() - self._opened_s > 2 * self.source.timeout_s

    def _failed(self, error: str) -> None:
        if not self._failures_in_a_row:
            logger.warning("%s: %s; tried again until it works", self.source.name, error, extra=self._told_of)
        self._failures_in_a_row += 1
        self.status.failures += 1
        self.status.state, self.status.error = "failing", error
        now_ms = self._now_ms()
        self._finish(Poll(self.source.name, failed_poll(self.source.metrics(), now_ms), now_ms, now_ms))

    def _finish(self, poll: Poll) -> None:
        self.status.polls += 1
        self.status.note(poll.readings)
        self._keep(poll)

    def _until_tick_s(self) -> float:
        # Beyond half an interval it would move polls into the next tick.
        jitter_s = random.uniform(0, min(self._jitter_s, self.source.interval_s / 2))  # noqa: S311 - spreads load, keeps no secret
        return max(0.0, (self._tick.due_ns - time.monotonic_ns()) / _NS_PER_S) + jitter_s

    def _backoff_s(self) -> float:
        cap_s = max(BACKOFF_CAP_S, self.source.interval_s)
        return backoff_s(self._failures_in_a_row, random.random(), cap_s=cap_s)  # noqa: S311 - as above

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """A step that is cut when the source's time-out has passed, by TimeoutError."""
        self._due_s = time.monotonic() + self.source.timeout_s
        async with asyncio.timeout(self.source.timeout_s):
            yield

    async def _pause(self, seconds: float) -> None:
        """Waits, unless the agent stops first."""
        self._due_s = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
