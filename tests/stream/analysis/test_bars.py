from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stream.analysis.arrivals import Arrivals
from stream.analysis.bars import Bars, BarsConfig
from stream.analysis.steps import StepBook
from stream.analysis.widths import SessionConfig, spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.analysis.bars import BarRows

MINUTE = 60_000
PRICE, VOLUME, OTHER = 0, 1, 2
CONFIG = BarsConfig(widths_s=(60, 300), late_after_s=120)


@dataclass(frozen=True)
class Came:
    slot: int
    at_ms: int
    value: float


def arrivals(readings: Sequence[Came], marks: list[int]) -> Arrivals:
    """The readings; a series' mark is the latest time of its own before, which `marks` carries on."""
    before = []
    for each in readings:
        before.append(marks[each.slot])
        marks[each.slot] = max(marks[each.slot], each.at_ms)
    return Arrivals(
        np.array([each.slot for each in readings], np.int32),
        np.array([each.at_ms for each in readings], np.int64),
        np.array([each.value for each in readings], np.float64),
        np.array(before, np.int64),
        np.array(marks, np.int64),
    )


def book(config: BarsConfig = CONFIG) -> Bars:
    made = Bars(config)
    made.grow(3)
    made.watch(PRICE, VOLUME)
    return made


def table(rows: BarRows) -> dict[tuple[int, int], tuple[float, ...]]:
    """(width, begin) to what stands there in the end."""
    columns = (rows.open, rows.high, rows.low, rows.close, rows.volume, rows.quotes, rows.is_final)
    keys = zip(rows.width_s.tolist(), rows.starts_at_ms.tolist(), strict=True)
    return dict(zip(keys, zip(*(each.tolist() for each in columns), strict=True), strict=True))


def told(parts: Sequence[Sequence[Came]], config: BarsConfig = CONFIG) -> dict[tuple[int, int], tuple[float, ...]]:
    made, marks, found = book(config), [0, 0, 0], {}
    for part in parts:
        made = Bars(config, made.arrays())  # as from a state store
        found |= table(made.advance(arrivals(part, marks)))
    return found


def by_hand(readings: Sequence[Came]) -> dict[tuple[int, int], tuple[float, ...]]:
    """The same, one reading at a time and all of them kept."""
    marks, kept = [0, 0, 0], {PRICE: dict[int, float](), VOLUME: dict[int, float]()}
    for each in readings:
        if each.slot in kept and each.at_ms // MINUTE * MINUTE + MINUTE + 120_000 > marks[each.slot]:
            kept[each.slot].setdefault(each.at_ms, each.value)
        marks[each.slot] = max(marks[each.slot], each.at_ms)
    grown, before = dict[int, float](), None
    for at, total in sorted(kept[VOLUME].items()):
        grown[at] = 0.0 if before is None else round(total - before if total >= before else total, 4)
        before = total
    found = {}
    for width_ms in (MINUTE, 5 * MINUTE):
        for begin in {at // width_ms * width_ms for at in kept[PRICE]}:
            prices = [value for at, value in sorted(kept[PRICE].items()) if begin <= at < begin + width_ms]
            volumes = [value for at, value in grown.items() if begin <= at < begin + width_ms]
            final = begin + width_ms + 120_000 <= min(marks[PRICE], marks[VOLUME])
            ohlc = prices[0], max(prices), min(prices), prices[-1]
            volume = round(sum(volumes), 4) if volumes else np.nan
            found[width_ms // 1000, begin] = (*ohlc, volume, len(prices), final)
    return found


quotes = st.lists(
    st.builds(
        Came,
        slot=st.sampled_from([PRICE, VOLUME, OTHER]),
        at_ms=st.integers(1, 40).map(lambda n: n * 17_000),
        value=st.integers(1, 9).map(lambda n: n * 0.7),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(quotes, st.lists(st.integers(0, 40), max_size=4))
def test_bars_are_the_same_however_the_readings_were_cut(readings: list[Came], cuts: list[int]) -> None:
    bounds = sorted({0, *cuts, len(readings)})
    parts = [readings[first:last] for first, last in itertools.pairwise(bounds)]
    expected = by_hand(readings)
    for found in (told([readings]), told(parts)):
        assert found.keys() == expected.keys()
        for key, bar in expected.items():
            np.testing.assert_array_equal(found[key], bar)


def test_a_late_quote_corrects_its_bar_until_the_watermark_and_no_longer() -> None:
    early = [Came(PRICE, MINUTE + 1000, 5.0), Came(PRICE, MINUTE + 30_000, 6.0)]
    corrected = told([early, [Came(PRICE, 2 * MINUTE + 119_000, 7.0)], [Came(PRICE, MINUTE + 2000, 9.0)]])
    assert corrected[60, MINUTE][:4] == (5.0, 9.0, 5.0, 6.0)
    too_late = told([early, [Came(PRICE, 2 * MINUTE + 120_000, 7.0)], [Came(PRICE, MINUTE + 2000, 9.0)]])
    assert too_late[60, MINUTE][:4] == (5.0, 6.0, 5.0, 6.0)


def test_a_late_volume_corrects_the_bar_after_its_own_too() -> None:
    early = [
        Came(PRICE, MINUTE, 5.0),
        Came(VOLUME, MINUTE, 10.0),
        Came(PRICE, 2 * MINUTE, 5.0),
        Came(VOLUME, 2 * MINUTE, 30.0),
    ]
    found = told([early, [Came(VOLUME, MINUTE + 30_000, 25.0)]])
    assert (found[60, MINUTE][4], found[60, 2 * MINUTE][4]) == (15.0, 5.0)


def test_minutes_without_a_quote_have_no_bar() -> None:
    found = told([[Came(PRICE, MINUTE, 5.0), Came(PRICE, 4 * MINUTE, 6.0)]])
    assert {begin for width, begin in found if width == 60} == {MINUTE, 4 * MINUTE}


def test_a_bar_that_is_told_final_is_told_once() -> None:
    made, marks = book(), [0, 0, 0]
    made.advance(arrivals([Came(PRICE, MINUTE, 5.0), Came(VOLUME, MINUTE, 5.0)], marks))
    later = [Came(PRICE, 60 * MINUTE, 6.0), Came(VOLUME, 60 * MINUTE, 8.0)]
    assert table(made.advance(arrivals(later, marks)))[300, 0][-1] is True
    again = made.advance(arrivals([Came(PRICE, 61 * MINUTE, 6.0)], marks))
    assert (300, 0) not in table(again)


def test_a_days_bar_is_that_of_the_session() -> None:
    session = SessionConfig.model_validate({"timezone": "America/New_York", "opens": "09:30:00", "closes": "16:00:00"})
    config = BarsConfig(widths_s=(60, 86_400), late_after_s=0, session=session)
    times = ["2026-03-06T14:29", "2026-03-06T14:30", "2026-03-06T20:59", "2026-03-06T21:00", "2026-03-09T13:30"]
    at_ms = [round(datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() * 1000) for each in times]
    found = told([[Came(PRICE, at, float(place)) for place, at in enumerate(at_ms)]], config)
    days = {begin: bar for (width, begin), bar in found.items() if width == 86_400}
    # Clocks went forward between the two.
    assert days.keys() == {at_ms[1], at_ms[4]}
    assert days[at_ms[1]][:4] == (1.0, 2.0, 1.0, 2.0)
    assert spans(np.array(at_ms[:1]), 86_400, session).begin_ms.tolist() == [-1]


@pytest.mark.parametrize("widths", [(), (60, 90), (0,), (60, 60)])
def test_widths_that_cannot_be_made_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        BarsConfig(widths_s=widths)


@settings(max_examples=150, deadline=None)
@given(quotes, st.lists(st.integers(0, 40), max_size=4))
def test_steps_are_the_same_however_the_readings_were_cut(readings: list[Came], cuts: list[int]) -> None:
    def closed(parts: Sequence[Sequence[Came]]) -> tuple[set[tuple[float, ...]], list[tuple[int, int]]]:
        steps, marks, found, late = StepBook(10_000, 5_000), [0, 0, 0], set(), []
        for part in parts:
            steps = StepBook(10_000, 5_000, steps.arrays())
            made, missed = steps.advance(arrivals(part, marks))
            found |= set(zip(made.slot, made.at_ms, made.value, made.readings, strict=True))
            late += list(zip(missed.slot.tolist(), missed.at_ms.tolist(), strict=True))
        return found, late

    bounds = sorted({0, *cuts, len(readings)})
    assert closed([readings]) == closed([readings[first:last] for first, last in itertools.pairwise(bounds)])


def test_a_step_is_the_mean_of_its_good_readings_each_counted_once() -> None:
    steps = StepBook(10_000, 5_000)
    came = [Came(0, 1000, 1.0), Came(0, 2000, np.nan), Came(0, 3000, 3.0), Came(0, 1000, 1.0), Came(0, 15_000, 9.0)]
    made, missed = steps.advance(arrivals([*came, Came(0, 4000, 8.0)], [0, 0, 0]))
    assert (made.at_ms.tolist(), made.value.tolist(), made.readings.tolist()) == ([0], [2.0], [2])
    assert missed.at_ms.tolist() == [4000]
