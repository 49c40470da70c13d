from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.analysis.bars import BarsConfig
from stream.analysis.blocks import Block
from stream.analysis.config import AnalysisConfig
from stream.analysis.findings import Findings
from stream.analysis.shard import advance
from stream.ingest.columns import Readings, SeriesName

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_700_000_000_000
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
