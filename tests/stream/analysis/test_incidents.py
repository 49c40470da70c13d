from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stream.analysis.anomalies import AnomalyConfig
from stream.analysis.incidents import LASTS, IncidentConfig, IncidentRows, Incidents
from stream.analysis.scores import Scores

STEP_MS = 10_000
CONFIG = IncidentConfig(threshold=5, clear=2, least_steps=3, join_steps=2, silence_s=100, told_every_steps=4)


def scored(*series: Any) -> Scores:
    """One series each, a score for each step; NaN: there is none."""
    found = [
        (slot, n * STEP_MS, x) for slot, each in enumerate(series) for n, x in enumerate(each) if not math.isnan(x)
    ]
    slot, at_ms, score = zip(*found, strict=True) if found else ((), (), ())
    scores = np.array(score, np.float64)
    value, expected = scores + 100, np.full(len(scores), 100.0)
    return Scores(np.array(slot, np.int32), np.array(at_ms, np.int64), value, expected, scores)


def told(scores: Scores, slots: int = 1, config: IncidentConfig = CONFIG) -> IncidentRows:
    incidents = Incidents(config)
    incidents.grow(slots)
    return incidents.advance(scores)


def spans(rows: IncidentRows) -> list[tuple[int, int | None]]:
    """Start and end of each row, in steps."""
    ends = [None if end == LASTS else end // STEP_MS for end in rows.ended_at_ms.tolist()]
    return list(zip((rows.started_at_ms // STEP_MS).tolist(), ends, strict=True))


def test_it_opens_above_the_threshold_and_ends_below_clear() -> None:
    rows = told(scored([0, 0, 6, 3, 7, 2, 1, 0, 0, 0]))
    assert spans(rows) == [(2, None), (2, 5)]
    assert rows.peak_score.tolist() == [7, 7]
    assert rows.peak_at_ms.tolist() == [4 * STEP_MS, 4 * STEP_MS]


def test_too_short_a_one_is_not_told() -> None:
    assert spans(told(scored([0, 6, 6, 0, 0, 0, 0, 6, 6, 0, 0, 0, 0]))) == []


def test_a_short_calm_joins_and_a_longer_one_does_not() -> None:
    assert spans(told(scored([6, 6, 0, 0, 6, 6, 0, 0, 0]))) == [(0, None), (0, 5)]
    assert spans(told(scored([6, 6, 6, 0, 0, 0, 6, 6, 6, 0, 0, 0]))) == [(0, None), (0, 2), (6, None), (6, 8)]


def test_between_clear_and_threshold_it_goes_on_but_does_not_come_back() -> None:
    assert spans(told(scored([6, 3, 3, 1, 3, 3, 3]))) == [(0, None), (0, 2)]


def test_one_that_gets_worse_is_told_again_but_not_at_each_step() -> None:
    rows = told(scored(range(6, 26)))
    assert spans(rows) == [(0, None)] * 5
    assert rows.peak_score.tolist() == [8, 12, 16, 20, 24]


def test_one_that_gets_no_worse_is_told_once() -> None:
    assert spans(told(scored([9] * 50))) == [(0, None)]


def test_evidence_is_the_first_the_worst_and_the_last() -> None:
    series = [6.0] * 100
    for place in (20, 30, 40):
        series[place] = place
    rows = told(scored([*series, 0, 0, 0]))
    readings = rows.readings(len(rows.slot) - 1)
    places = [each.at_ms // STEP_MS for each in readings]
    assert len(places) == 20
    assert places == sorted(places)
    assert places[:6] == [*range(6)]
    assert places[-6:] == [*range(94, 100)]
    assert {20, 30, 40} < set(places)
    assert readings[0] == (0, 106.0, 100.0, 6.0)


def test_a_series_gone_silent_ends_as_of_its_last_step() -> None:
    gone = [6.0] * 5 + [math.nan] * 20
    assert spans(told(scored([*gone, 0.0]))) == [(0, None), (0, 4)]
    assert spans(told(scored([*gone, 6.0, 6.0, 6.0]))) == [(0, None), (0, 4), (25, None)]


def test_silence_is_known_by_how_far_the_series_is_complete() -> None:
    incidents = Incidents(CONFIG)
    incidents.grow(2)
    rows = incidents.advance(scored([6.0] * 5, [6.0] * 5), np.array([140_000, 140_001]))
    assert spans(rows) == [(0, None), (0, None), (0, 4)]
    assert rows.slot.tolist() == [0, 1, 1]


def test_the_latest_row_of_each_incident_is_what_the_table_needs() -> None:
    rows = told(scored([*range(6, 16), 0, 0, 0, 6, 6, 6], [7, 7, 7]), 2).latest()
    assert rows.slot.tolist() == [0, 0, 1]
    assert spans(rows) == [(0, 9), (13, None), (0, None)]


def test_the_docs_have_the_defaults() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "analysis.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", page, re.MULTILINE)
    defaults = AnomalyConfig()
    pair = defaults.robust_incidents.model_dump(), defaults.stuck_incidents.model_dump()
    assert {name: (float(one), float(other)) for name, one, other in told} == {
        name: (pair[0][name], pair[1][name]) for name in pair[0]
    }


def test_clear_above_threshold_is_refused() -> None:
    with pytest.raises(ValidationError, match="clear 6"):
        IncidentConfig(threshold=5, clear=6)


score_values = st.sampled_from([0.0, 1.0, 3.0, 6.0, 6.0, 7.0, 20.0, math.nan]) | st.floats(0, 50)
runs = st.lists(st.tuples(score_values, st.integers(1, 15)), max_size=15)
many_series = st.lists(runs.map(lambda found: [x for x, count in found for _ in range(count)]), min_size=1, max_size=4)


@given(many_series, st.lists(st.integers(0, 100), max_size=5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_cuts_and_restored_state_make_no_difference(series: list[list[float]], cuts: list[int], complete: bool) -> None:  # noqa: FBT001 - hypothesis hands it over
    every, slots = scored(*series), len(series)
    pieces, state = [], None
    for start, end in pairwise([0, *sorted(cuts), 300]):
        incidents = Incidents(CONFIG, state)
        incidents.grow(slots)
        mine = (every.at_ms >= start * STEP_MS) & (every.at_ms < end * STEP_MS)
        pieces.append(incidents.advance(every.where(mine), np.full(slots, end * STEP_MS - 1) if complete else None))
        state = incidents.arrays()
        for array in state.values():
            array.flags.writeable = False
    whole = Incidents(CONFIG)
    whole.grow(slots)
    rows = whole.advance(every, np.full(slots, 300 * STEP_MS - 1) if complete else None)
    together = IncidentRows(
        *(np.concatenate([getattr(p, n) for p in pieces]) for n in IncidentRows.__slots__)
    ).in_order()
    for name in IncidentRows.__slots__:
        np.testing.assert_array_equal(getattr(together, name), getattr(rows, name), name)
    assert state is not None
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(state[name], array, name)


@given(many_series)
@settings(max_examples=30, deadline=None)
def test_it_is_what_one_series_at_a_time_gives(series: list[list[float]]) -> None:
    rows = told(scored(*series), len(series))
    expected = [(slot, *found) for slot, each in enumerate(series) for found in naive(each)]
    evidence = [[(each.at_ms // STEP_MS, each.score) for each in rows.readings(row)] for row in range(len(rows.slot))]
    spanned = zip(rows.slot.tolist(), spans(rows), rows.peak_score.tolist(), evidence, strict=True)
    found = [(slot, *span, peak, comparable(readings)) for slot, span, peak, readings in spanned]
    assert found == expected


def naive(series: list[float]) -> list[Any]:  # noqa: C901 - a series in one piece
    """Rows of start, end, peak and evidence: steps that are unusual are kept in a list."""
    rows: list[Any] = []
    unusual: list[tuple[int, float]] = []
    is_on = is_open = False
    calm = untold = seen = 0
    told_peak = 0.0

    def tell(end: int | None) -> None:
        rows.append((unusual[0][0], end, max(score for _, score in unusual), kept(unusual)))

    for place, score in enumerate(series):
        if math.isnan(score):
            continue
        if unusual and (place - seen) * 10 > CONFIG.silence_s:
            if is_open:
                tell(unusual[-1][0])
            unusual, is_open, is_on = [], False, False
        seen = place
        is_on = score >= CONFIG.clear if is_on and unusual else score > CONFIG.threshold
        untold += 1
        if is_on:
            unusual = [*unusual, (place, score)]
            calm = 0
        elif unusual:
            calm += 1
        peak = max((each for _, each in unusual), default=0.0)
        is_worse = is_open and peak > told_peak and untold >= CONFIG.told_every_steps
        if (len(unusual) >= CONFIG.least_steps and not is_open) or is_worse:
            is_open, untold, told_peak = True, 0, peak
            tell(None)
        if unusual and calm > CONFIG.join_steps:
            if is_open:
                tell(unusual[-1][0])
            unusual, is_open = [], False
    return rows


def kept(unusual: list[tuple[int, float]]) -> Any:
    first, rest = unusual[:6], unusual[6:]
    middle, last = (rest[:-6], rest[-6:]) if len(rest) > 6 else ([], rest)
    worst = sorted(middle, key=lambda each: -each[1])[:8]
    return comparable(sorted([*first, *worst, *last]))


def comparable(readings: list[tuple[int, float]]) -> Any:
    """Which of several that are equally bad is kept does not matter."""
    middle = readings[6:-6] if len(readings) > 12 else []
    return readings[:6], sorted(score for _, score in middle), readings[-6:]
