from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.analysis.anomalies import AnomalyConfig
from stream.analysis.bars import BarsConfig
from stream.analysis.blocks import Block
from stream.analysis.config import AnalysisConfig
from stream.analysis.findings import Findings
from stream.analysis.marks import max_before
from stream.analysis.packing import pack
from stream.analysis.robust import RobustConfig
from stream.analysis.shard import advance
from stream.errors import FatalError
from stream.ingest.columns import Readings, SeriesName

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_700_000_000_000
HOUR = NOW // 3_600_000 * 3_600_000
CONFIG = AnalysisConfig(
    step_s=5, grace_s=2, silence_s=10, bars=BarsConfig(widths_s=(10, 60), late_after_s=20), max_series=30
)
SERIES = [
    SeriesName("g", node, "d", metric) for node in "ab" for metric in ("AB/price", "AB/volume", "CD/price", "level")
]


def reading(series: SeriesName, at_ms: int, received_ms: int, value: float, *, historical: bool = False) -> Any:
    return series, at_ms, received_ms, value, historical


def block(rows: Sequence[Any], partition: int, offset: int) -> Block:
    """A record for each reading, from `offset` on."""
    names = tuple(dict.fromkeys(row[0] for row in rows))
    number = np.array([names.index(row[0]) for row in rows], np.int32)
    at, received, value, historical = (np.array([row[n] for row in rows]) for n in range(1, 5))
    readings = Readings(
        names,
        np.full(len(names), 10, np.int16),
        number,
        at.astype(np.int64),
        received.astype(np.int64),
        historical.astype(bool),
        np.full(len(rows), 192, np.int16),
        value.astype(float),
    )
    return Block(0, partition, offset, offset + len(rows), readings.to_bytes())


class Tables:
    """What the rows of many findings leave in tables."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Any, Any]] = {"bar": {}, "trend": {}, "anomaly": {}, "late": {}}

    def take(self, found: Findings) -> None:
        series = [SeriesName(*name) for name in zip(*_lists(found.series)[:4], strict=True)]
        for slot, width, starts, *bar in zip(*_lists(found.bars), strict=True):
            self.tables["bar"][series[slot], width, starts] = [
                None if value is None or np.isnan(value) else value for value in bar
            ]
        for slot, at, *trend in zip(*_lists(found.trends), strict=True):
            assert (series[slot], at) not in self.tables["trend"], "a step is closed once"
            self.tables["trend"][series[slot], at] = trend
        for slot, detector, started, *told in zip(*_lists(found.anomalies), strict=True):
            self.tables["anomaly"][series[slot], detector, started] = told
        for slot, bucket, count in zip(*_lists(found.late), strict=True):
            late = self.tables["late"]
            late[series[slot], bucket] = late.get((series[slot], bucket), 0) + count


def _lists(rows: Any) -> list[list[Any]]:
    return [getattr(rows, name).tolist() for name in rows.__slots__]


def run(batches: Sequence[Sequence[Block]]) -> Tables:
    state: dict[str, bytes] = {}
    tables = Tables()
    for blocks in batches:
        if blocks:
            changed, found = advance(CONFIG, state, blocks)
            state |= changed
            tables.take(Findings.from_bytes(found.to_bytes()))
    return tables


@st.composite
def logs(draw: st.DrawFn) -> list[list[Any]]:
    """Two Kafka partitions of readings, a node in each: mostly in order, some late, delivered again or from a store."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    partitions = []
    for node in range(2):
        rows: list[Any] = []
        for n in range(draw(st.integers(1, 120))):
            received = NOW + n * 1500
            series = SERIES[node * 4 + int(rng.integers(4))]
            lag = int(rng.choice([0, 500, 5_000, 40_000, -3_000_000], p=[0.6, 0.2, 0.1, 0.07, 0.03]))
            lag = max(lag, 0) if series.metric.endswith("volume") else lag
            value = float(rng.integers(1000))
            rows.append(reading(series, received - lag, received, value, historical=lag > 6000))
            if rng.random() < 0.1:
                rows.append(rows[-1])
        partitions.append(rows)
    return partitions


def cut(partitions: Sequence[Sequence[Any]], cuts: Sequence[int], inner: int) -> list[list[Block]]:
    """Micro-batches of both partitions, each partition's share in blocks of `inner` readings at most."""
    ends = [0, *sorted(cuts), 10_000]
    batches = []
    for begin, end in itertools.pairwise(ends):
        blocks = []
        for partition, rows in enumerate(partitions):
            share = rows[begin:end]
            blocks += [block(share[at : at + inner], partition, begin + at) for at in range(0, len(share), inner)]
        batches.append(blocks[::-1])
    return batches


@settings(max_examples=40, deadline=None)
@given(logs(), st.lists(st.integers(0, 130), max_size=6), st.integers(1, 50))
def test_what_is_found_does_not_depend_on_micro_batches(
    partitions: list[list[Any]], cuts: list[int], inner: int
) -> None:
    whole = run(cut(partitions, [], 10_000))
    assert run(cut(partitions, cuts, inner)).tables == whole.tables


def test_a_clock_that_is_far_ahead_makes_nobody_late() -> None:
    level, other = SERIES[3], SERIES[2]
    rows = [reading(level, NOW + 3_000_000, NOW, 1.0)]
    rows += [reading(series, NOW + n * 1000, NOW + n * 1000, 1.0) for n in range(1, 60) for series in (level, other)]
    tables = run([[block(rows, 0, 0)]]).tables
    assert tables["late"] == {}
    # Its own series is waited for no longer than a clock may be ahead.
    assert max(at for name, at in tables["trend"] if name == level) >= NOW + 50_000


def test_what_is_sent_again_is_not_late_and_what_is_new_is() -> None:
    """A node that lost an acknowledgement: its last seconds come once more, with one reading that never came."""
    rows = [reading(SERIES[3], NOW + n * 1000, NOW + n * 1000, 1.0) for n in range(100) if n != 80]
    again = [reading(SERIES[3], NOW + n * 1000, NOW + 101_000, 1.0, historical=True) for n in range(75, 100)]
    for cuts in ([], [80, 110], [*range(0, 140, 7)]):
        assert run(cut([rows + again], cuts, 9)).tables["late"] == {(SERIES[3], HOUR): 1}
    longer_ago = [reading(SERIES[3], NOW + n * 1000, NOW + 101_000, 1.0, historical=True) for n in range(60, 80)]
    for cuts in ([], [70, 110], [*range(0, 140, 7)]):
        assert run(cut([rows + longer_ago], cuts, 9)).tables["late"] == {(SERIES[3], HOUR): 9}, (
            "thirty seconds are kept"
        )


def test_what_waited_for_the_bridge_is_not_late_and_a_store_makes_nobody_else_late() -> None:
    """All of ten minutes is received at once, then another device's from its store."""
    rows = [reading(SERIES[3], NOW + n * 1000, NOW + 600_000, 1.0) for n in range(600)]
    assert run([[block(rows, 0, 0)]]).tables["late"] == {}
    rows = [reading(SERIES[3], NOW + n * 1000, NOW + 600_000, 1.0, historical=True) for n in range(600)]
    rows += [reading(SERIES[0], NOW + n * 1000, NOW + 600_000, 1.0, historical=True) for n in range(600)]
    assert run([[block(rows, 0, 0)]]).tables["late"] == {}


def test_series_beyond_the_most_are_counted_and_no_more() -> None:
    rows = [reading(SeriesName("g", "a", "d", f"m{n}"), NOW, NOW, 1.0) for n in range(40)]
    changed, found = advance(CONFIG, {}, [block(rows, 0, 0)])
    assert (found.counts.readings.tolist(), found.counts.left_out.tolist()) == ([30], [10])
    _, found = advance(CONFIG, changed, [block(rows[::-1], 0, 40)])
    assert found.counts.left_out.tolist() == [10], "those that were first stay"


@pytest.mark.parametrize("part", ["series", "marks", "bars", "steps", "anomalies"])
def test_a_state_of_another_version_is_refused_with_advice(part: str) -> None:
    state, _ = advance(CONFIG, {}, [block([reading(SERIES[0], NOW, NOW, 1.0)], 0, 0)])
    assert part in state
    for strange in (pack({}, 2), b"", b"not ours at all", state[part][::-1]):
        with pytest.raises(FatalError, match=f"state of {part}.*delete the analysis' checkpoint.*stream replay"):
            advance(CONFIG, state | {part: strange}, [block([reading(SERIES[0], NOW, NOW, 1.0)], 0, 1)])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=40),
    st.lists(st.integers(0, 50), min_size=4, max_size=4),
)
def test_max_before_is_what_a_loop_finds(rows: list[tuple[int, int]], begun: list[int]) -> None:
    group, values = (np.array([row[n] for row in rows], np.int64) for n in range(2))
    most, expected = list(begun), []
    for place, value in rows:
        expected.append(most[place])
        most[place] = max(most[place], value)
    found = max_before(values, group.astype(np.int32), np.array(begun, np.int64))
    assert found.tolist() == expected


def test_detectors_learn_anew_with_other_settings_and_the_rest_goes_on() -> None:
    rows = [reading(SERIES[0], NOW + n * 1000, NOW + n * 1000, 1.0) for n in range(100)]
    state, before = advance(CONFIG, {}, [block(rows[:90], 0, 0)])
    assert len(before.trends.slot) > 0
    other = CONFIG.model_copy(update={"anomalies": AnomalyConfig(robust=RobustConfig(window=10, season_parts=2))})
    changed, found = advance(other, state, [block(rows[90:], 0, 90)])
    assert len(found.trends.slot) > 0
    assert "anomalies" in changed
    assert found.bars.quotes.max() > 10, "the minute has its earlier quotes, too"
