"""The way of a poll into the spool, in one step: the gap before it, what is reported of it, and its lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from contract.delivery import Gap
from edge.batch import batches_of_poll, gap_batch
from edge.lane import Lane
from edge.reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge.batch import Batch
    from edge.polling import Poll
    from edge.reading import MetricInfo, Reading
    from edge.reporting import ReportRule
    from edge.sources.base import Clock


class Device(Protocol):
    """What readings are of: a source, or a model."""

    @property
    def name(self) -> str:
        """The Sparkplug device."""

    @property
    def report(self) -> Sequence[ReportRule]:
        """What is held back."""

    def metrics(self) -> Sequence[MetricInfo]:
        """What it may tell."""


class Intake:
    """Takes polls of open sources; `put` gets the batches, also those that declare a gap."""

    def __init__(self, put: Callable[[Batch], None], now_ms: Clock) -> None:
        self._put = put
        self._now_ms = now_ms
        self._ways: dict[str, _Way] = {}
        self._gaps: dict[str, Gap] = {}

    def open(self, source: Device) -> None:
        """From now on polls of this source come, by these rules."""
        self._ways[source.name] = _Way(source)

    def close(self, source: str) -> None:
        """No more polls of it come: what was held back is kept after all, as the end of its lines."""
        if held := self._ways[source].reporter.flush():
            self._put_all(source, held, min(reading.sampled_at_ms for reading in held), self._now_ms())

    def foresee(self, gaps: Mapping[str, Gap]) -> None:
        """Readings of these sources may be missing from a time on; the next poll of each says until when."""
        self._gaps.update(gaps)

    def keep(self, poll: Poll) -> None:
        """Every reading goes from its poll into the spool in this one step, so that no stop can lose it between."""
        if not poll.readings:
            return
        if self._gaps:
            self._close_gap(poll)
        way = self._ways[poll.source]
        readings = way.reporter.report(poll.readings) if way.reporter.watches else poll.readings
        self._put_all(poll.source, readings, poll.started_ms, poll.finished_ms)

    def note(self, source: str, reading: Reading) -> None:
        """A reading was kept by another way: the read-back of a write."""
        if source in self._ways:
            self._ways[source].reporter.note(reading)

    def forget(self) -> None:
        """Births were sent: the next reading of every metric is reported."""
        for way in self._ways.values():
            way.reporter.forget()

    def suppressed(self, source: str) -> int:
        """How many of its readings were held back for good."""
        return self._ways[source].reporter.suppressed

    def _close_gap(self, poll: Poll) -> None:
        if (gap := self._gaps.get(poll.source)) is None:
            return
        to_ms = max(reading.sampled_at_ms for reading in poll.readings)
        # Not before its beginning: after a boot the clock may be behind until the network sets it.
        if to_ms > gap.from_ms:
            del self._gaps[poll.source]
            self._put(gap_batch(poll.source, Gap(gap.from_ms, to_ms, gap.reason), self._now_ms()))

    def _put_all(self, source: str, readings: Sequence[Reading], started_ms: int, now_ms: int) -> None:
        for lane, of_lane in self._ways[source].split(readings):
            for batch in batches_of_poll(source, of_lane, started_ms, now_ms, lane):
                self._put(batch)


class _Way:
    """What is known of one source."""

    def __init__(self, source: Device) -> None:
        metrics = source.metrics()
        self.reporter = Reporter(source.report, metrics)
        self._lanes = {metric.name: metric.lane for metric in metrics if metric.lane is not Lane.LIVE}

    def split(self, readings: Sequence[Reading]) -> list[tuple[Lane, Sequence[Reading]]]:
        """Readings by lane; most sources have one lane alone, and then there is nothing to sort."""
        if not self._lanes:
            return [(Lane.LIVE, readings)]
        sorted_by_lane: dict[Lane, list[Reading]] = {}
        for reading in readings:
            sorted_by_lane.setdefault(self._lanes.get(reading.metric, Lane.LIVE), []).append(reading)
        return sorted(sorted_by_lane.items())
