"""A poll on its way into the spool: the gap before it, what is held back of it, and its lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from contract.datatypes import DataType
from contract.delivery import GAP, Gap
from contract.sparkplug import decode
from edge.intake import Intake
from edge.lane import Lane
from edge.polling import Poll
from edge.reading import MetricInfo, Reading
from edge.reporting import ReportRule
from edge.sources.base import Source, SourceConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from edge.batch import Batch
    from edge.sources.base import Clock

LEVEL = MetricInfo("level", DataType.DOUBLE)
FAULT = MetricInfo("fault", DataType.BOOLEAN, lane=Lane.ALARM)
FRAME = MetricInfo("frame", DataType.BYTES, lane=Lane.IMAGE)


class AnyConfig(SourceConfig):
    """A source that is never opened."""

    type: Literal["any"] = "any"
    of_all_lanes: bool = False

    def metrics(self) -> Sequence[MetricInfo]:
        return (LEVEL, FAULT, FRAME) if self.of_all_lanes else (LEVEL,)

    def open(self, now_ms: Clock) -> AbstractAsyncContextManager[Source]:
        raise NotImplementedError(now_ms)


class Kept:
    """An intake, and the batches that came out of it."""

    def __init__(self, *sources: AnyConfig) -> None:
        self.batches: list[Batch] = []
        self.intake = Intake(self.batches.append, lambda: 99)
        for source in sources:
            self.intake.open(source)

    def poll(self, source: str, *readings: Reading) -> list[Batch]:
        before = len(self.batches)
        self.intake.keep(Poll(source, readings, 1, 10))
        return self.batches[before:]


def level(at_ms: int, value: float = 1.0) -> Reading:
    return Reading("level", DataType.DOUBLE, value, at_ms)


def values(batches: Sequence[Batch]) -> list[object]:
    return [metric.value for batch in batches for metric in decode(batch.payload).metrics]


def test_a_poll_of_one_lane_is_one_batch() -> None:
    [batch] = Kept(AnyConfig(name="a", interval_s=1)).poll("a", level(5), level(7))
    assert (batch.device, batch.lane, batch.from_ms, batch.to_ms) == ("a", Lane.LIVE, 1, 7)


def test_a_poll_of_several_lanes_is_a_batch_of_each_the_most_urgent_first() -> None:
    kept = Kept(AnyConfig(name="a", interval_s=1, of_all_lanes=True))
    fault, frame = Reading("fault", DataType.BOOLEAN, True, 6), Reading("frame", DataType.BYTES, b"jpeg", 6)  # noqa: FBT003 - its value
    batches = kept.poll("a", frame, level(5), fault, level(7), frame._replace(sampled_at_ms=8))
    assert [(batch.lane, len(decode(batch.payload).metrics)) for batch in batches] == [
        (Lane.ALARM, 1),
        (Lane.LIVE, 2),
        (Lane.IMAGE, 1),
        (Lane.IMAGE, 1),
    ]


def test_nothing_is_no_batch() -> None:
    kept = Kept(AnyConfig(name="a", interval_s=1, report=(ReportRule(),)))
    assert kept.poll("a") == []
    assert len(kept.poll("a", level(1))) == 1
    assert kept.poll("a", level(2)) == []
    assert kept.intake.suppressed("a") == 0, "it may yet be sent before a change"


def test_what_is_held_back_is_kept_when_its_source_is_closed() -> None:
    kept = Kept(AnyConfig(name="a", interval_s=1, report=(ReportRule(),)))
    kept.poll("a", level(1), level(2), level(3))
    kept.intake.close("a")
    kept.intake.close("a")
    assert [(batch.from_ms, batch.to_ms) for batch in kept.batches] == [(1, 1), (3, 3)]
    assert kept.intake.suppressed("a") == 1


def test_after_births_and_after_a_write_the_reference_is_new() -> None:
    kept = Kept(AnyConfig(name="a", interval_s=1, report=(ReportRule(),)))
    assert values(kept.poll("a", level(1), level(2))) == [1.0]
    kept.intake.forget()
    assert values(kept.poll("a", level(3), level(4))) == [1.0]
    kept.intake.note("a", level(5, 2.0))
    kept.intake.note("gone", level(5, 2.0))
    assert kept.poll("a", level(6, 2.0)) == []
    assert values(kept.poll("a", level(7, 1.0))) == [2.0, 1.0]


@pytest.mark.parametrize("report", [(), (ReportRule(),)])
def test_the_gap_before_the_first_poll_is_declared_once_for_each_source(report: tuple[ReportRule, ...]) -> None:
    kept = Kept(AnyConfig(name="a", interval_s=1, report=report), AnyConfig(name="b", interval_s=1))
    kept.intake.foresee({"a": Gap(100, 100, "agent killed")})
    assert len(kept.poll("b", level(150))) == 1
    # The clock is behind, as after a boot without a network.
    assert GAP not in {metric.name for b in kept.poll("a", level(40)) for metric in decode(b.payload).metrics}
    declared, *_ = kept.poll("a", level(160))
    assert Gap.from_metric(decode(declared.payload).metrics[0]) == Gap(100, 160, "agent killed")
    assert len(kept.poll("a", level(170, 5.0))) == 1
