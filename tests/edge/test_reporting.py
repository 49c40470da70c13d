"""Report by exception: whoever has the reported points has the series, to within the deadband."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.lane import Lane
from edge.reading import MetricInfo, Reading
from edge.reporting import Reporter, ReportRule

if TYPE_CHECKING:
    from contract.datatypes import Value

LEVEL = MetricInfo("level", DataType.DOUBLE)


def readings_of(values: list[Value], step_ms: int = 1000) -> list[Reading]:
    return [Reading("level", DataType.DOUBLE, value, n * step_ms) for n, value in enumerate(values)]


def reported_of(rule: dict[str, Any], readings: list[Reading], *, split: int = 1) -> list[Reading]:
    """What is reported of readings that come so many a poll."""
    reporter = Reporter([ReportRule(**rule)], [LEVEL])
    return [
        reading for i in range(0, len(readings), split) for reading in reporter.report(readings[i : i + split])
    ] + reporter.flush()


walks = st.lists(st.floats(-3, 3), min_size=1, max_size=60).map(lambda steps: list(itertools.accumulate(steps)))
times = st.lists(st.integers(1, 5000), min_size=60, max_size=60).map(lambda pauses: list(itertools.accumulate(pauses)))
deadbands = st.floats(0, 5)


def series(values: list[float], at_ms: list[int]) -> list[Reading]:
    return [Reading("level", DataType.DOUBLE, value, at) for value, at in zip(values, at_ms, strict=False)]


@given(walks, times, deadbands, st.integers(1, 4))
def test_the_series_is_within_the_deadband_of_what_was_reported(
    values: list[float], at_ms: list[int], deadband: float, split: int
) -> None:
    readings = series(values, at_ms)
    reported = reported_of({"deadband": deadband}, readings, split=split)
    assert set(reported) <= set(readings)
    assert [r.sampled_at_ms for r in reported] == sorted({r.sampled_at_ms for r in reported}), "in order, none twice"
    known = {reading.sampled_at_ms: reading.value for reading in reported}
    standing: Any = None
    for reading in readings:
        standing = known.get(reading.sampled_at_ms, standing)
        assert standing is not None, "the first is reported"
        assert abs(reading.value - standing) <= deadband


@given(walks, times, deadbands)
def test_a_line_through_the_reported_points_is_within_twice_the_deadband(
    values: list[float], at_ms: list[int], deadband: float
) -> None:
    readings = series(values, at_ms)
    reported: Any = reported_of({"deadband": deadband}, readings)
    assert reported[-1] == readings[-1], "it reaches up to the end"
    for left, right in itertools.pairwise(reported):
        for reading in readings:
            if left.sampled_at_ms <= reading.sampled_at_ms <= right.sampled_at_ms:
                part = (reading.sampled_at_ms - left.sampled_at_ms) / (right.sampled_at_ms - left.sampled_at_ms)
                drawn: Any = left.value + part * (right.value - left.value)
                assert abs(reading.value - drawn) <= 2 * deadband + 1e-9


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=60), times, st.floats(0, 100))
def test_a_percentage_is_of_the_value_last_reported(values: list[float], at_ms: list[int], percent: float) -> None:
    readings = series(values, at_ms)
    known: Any = {r.sampled_at_ms: r.value for r in reported_of({"deadband_percent": percent}, readings)}
    standing: Any = None
    for reading in readings:
        standing = known.get(reading.sampled_at_ms, standing)
        assert abs(reading.value - standing) <= abs(standing) * percent / 100


@given(st.integers(1, 100), st.integers(1, 50), st.integers(2, 200))
def test_a_value_that_never_changes_is_reported_after_max_silence(silence_s: int, pause_s: int, count: int) -> None:
    readings = readings_of([7.0] * count, step_ms=pause_s * 1000)
    reporter = Reporter([ReportRule(deadband=1, max_silence_s=silence_s)], [LEVEL])
    reported = [reading for reading in readings if reporter.report([reading])]
    for earlier, later in itertools.pairwise(reported):
        assert silence_s * 1000 <= later.sampled_at_ms - earlier.sampled_at_ms < (silence_s + pause_s) * 1000
    assert readings[-1].sampled_at_ms - reported[-1].sampled_at_ms < silence_s * 1000
    assert reporter.suppressed + len(reported) + len(reporter.flush()) == count


def test_before_a_change_comes_the_last_point_that_was_held_back() -> None:
    readings = readings_of([5.0, 5.1, 5.0, 5.2, 9.0, 9.1])
    reporter = Reporter([ReportRule(deadband=0.5)], [LEVEL])
    told = [[r.value for r in reporter.report([reading])] for reading in readings]
    assert told == [[5.0], [], [], [], [5.2, 9.0], []]
    assert reporter.suppressed == 2
    assert [r.value for r in reporter.flush()] == [9.1]
    assert reporter.flush() == []


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        ([1.0, None, None, 1.0], [1.0, None, None, 1.0]),
        ([1.0, math.nan, math.nan, math.nan, 1.0], [1.0, math.nan, math.nan, 1.0]),
        ([math.inf, 5.0, 5.0], [math.inf, 5.0, 5.0]),
        ([math.inf, math.inf, -math.inf], [math.inf, math.inf, -math.inf]),
        ([True, 1, True], [True, 1, True]),
        (["on", "on", "on", "off"], ["on", "on", "off"]),
        ([False, False, False, True], [False, False, True]),
        ([(1, 2), (1, 2), (1, 2), (1, 3)], [(1, 2), (1, 2), (1, 3)]),
        ([5, 5.0, 5, 6.5], [5, 5, 6.5]),
        ([10**400, 10**400 + 1, 1.5], [10**400, 10**400 + 1, 1.5]),
        ([0.0, 0.01, 0.0], [0.0, 0.01, 0.0]),
    ],
)
def test_what_is_a_change(values: list[Value], reported: list[Value]) -> None:
    rule = {"deadband_percent": 10}
    told = [reading.value for reading in reported_of(rule, readings_of(values))]
    assert repr(told) == repr(reported)


def test_a_change_of_quality_is_always_reported() -> None:
    qualities = [Quality.GOOD, Quality.GOOD, Quality.STALE, Quality.STALE, Quality.GOOD]
    readings = [Reading("level", DataType.DOUBLE, 1.0, n, quality) for n, quality in enumerate(qualities)]
    assert reported_of({"deadband": 9}, readings) == readings


def test_a_failing_source_is_bad_once_and_then_after_each_silence() -> None:
    readings = [Reading("level", DataType.DOUBLE, None, n * 1000, Quality.BAD) for n in range(25)]
    reporter = Reporter([ReportRule(max_silence_s=10)], [LEVEL])
    assert [r.sampled_at_ms for r in reporter.report(readings)] == [0, 10_000, 20_000]


def test_what_no_rule_matches_and_what_is_an_alarm_is_always_reported() -> None:
    metrics = [LEVEL, MetricInfo("fault", DataType.BOOLEAN, lane=Lane.ALARM), MetricInfo("pump/on", DataType.BOOLEAN)]
    reporter = Reporter([ReportRule(metrics="l*"), ReportRule(metrics="fault")], metrics)
    readings = [Reading(name, DataType.DOUBLE, 1.0, n) for n in range(3) for name in ("level", "fault", "pump/on", "x")]
    assert len(reporter.report(readings)) == 1 + 3 * 3
    assert not Reporter([ReportRule(metrics="fault")], metrics).watches


def test_the_first_rule_that_matches_counts() -> None:
    rules = [ReportRule(metrics="lev?l", deadband=5), ReportRule(metrics="*", deadband=0)]
    reporter = Reporter(rules, [LEVEL])
    assert len(reporter.report(readings_of([1.0, 2.0, 3.0]))) == 1


def test_after_a_birth_every_metric_is_told_again() -> None:
    reporter = Reporter([ReportRule()], [LEVEL])
    readings = readings_of([1.0] * 4)
    assert reporter.report(readings[:2]) == readings[:1]
    reporter.forget()
    assert reporter.report(readings[2:]) == readings[2:3]
    assert reporter.suppressed == 1


def test_a_read_back_counts_as_reported() -> None:
    reporter = Reporter([ReportRule()], [LEVEL])
    first, second, third = readings_of([1.0, 2.0, 2.0])
    assert reporter.report([first]) == [first]
    reporter.note(second)
    assert reporter.report([third]) == []


def test_a_time_that_goes_back_is_news() -> None:
    late = Reading("level", DataType.DOUBLE, 1.0, -5)
    assert reported_of({}, [*readings_of([1.0]), late]) == [*readings_of([1.0]), late]


def test_there_is_one_deadband() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        ReportRule(deadband=1, deadband_percent=1)
