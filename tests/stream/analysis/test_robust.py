"""The robust detector and that of stuck sensors, on series made for what they are to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream.analysis.anomalies import Anomalies, AnomalyConfig
from stream.analysis.arrivals import Steps
from stream.analysis.incidents import LASTS, IncidentConfig
from stream.analysis.robust import RobustAnomalies, RobustConfig
from stream.analysis.stuck import StuckConfig, StuckSensors

if TYPE_CHECKING:
    from stream.analysis.scores import Scores

STEP_MS = 10_000
CONFIG = RobustConfig()
PART = 15
DAY = 24 * PART
SHORT_DAY = RobustConfig(season_s=DAY * 10)


def steps(*series: Any) -> Steps:
    """One series each, a number for each step; NaN: the step is not there."""
    columns = [np.asarray(values, float) for values in series]
    there = [np.flatnonzero(~np.isnan(column)) for column in columns]
    slot = np.repeat(np.arange(len(columns)), [len(each) for each in there]).astype(np.int32)
    value = np.concatenate([column[each] for column, each in zip(columns, there, strict=True)])
    return Steps(slot, np.concatenate(there).astype(np.int64) * STEP_MS, value, np.ones(len(slot), np.int32))


def scored(found: Steps, slots: int = 1, config: RobustConfig = CONFIG) -> Scores:
    robust = RobustAnomalies(config, STEP_MS)
    robust.grow(slots)
    return robust.advance(found)


def at(scores: Scores, step: int) -> float:
    """The score of the series' step."""
    (place,) = np.flatnonzero(scores.at_ms == (step + 1) * STEP_MS)
    return float(scores.score[place])


def noise(count: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=count)


def test_scores_of_noise_are_its_standard_deviations() -> None:
    scores = scored(steps(*(20 + 3 * noise(1000, seed) for seed in range(20))), 20)
    late = scores.at_ms > 700 * STEP_MS
    assert np.sqrt((scores.score[late] ** 2).mean()) == pytest.approx(1, abs=0.15)
    assert scores.score[late].max() < 5


def test_an_outlier_is_scored_by_what_came_before_it() -> None:
    series = 20 + 3 * noise(1000)
    series[900] = 20 + 3 * 40
    scores = scored(steps(series))
    assert at(scores, 900) == pytest.approx(40, rel=0.2)
    place = np.flatnonzero(scores.at_ms == 901 * STEP_MS)[0]
    assert scores.value[place] == series[900]
    assert scores.expected[place] == pytest.approx(20, abs=2)
    assert at(scores, 901) < 5


def test_a_series_is_scored_once_its_window_has_something() -> None:
    scores = scored(steps(noise(400)))
    assert 100 * STEP_MS < scores.at_ms[0] < 200 * STEP_MS
    assert len(np.unique(np.diff(scores.at_ms))) == 1


def test_a_fault_of_some_minutes_does_not_become_usual() -> None:
    clean = noise(1100)
    faulty = clean.copy()
    faulty[1000:1080] += 15
    both = scored(steps(clean, faulty), 2)
    without, scores = both.where(both.slot == 0), both.where(both.slot == 1)
    assert min(at(scores, step) for step in range(1000, 1080)) > 8
    assert at(scores, 1081) == pytest.approx(at(without, 1081), abs=0.5)


def test_a_new_level_is_usual_after_a_while() -> None:
    series = noise(1300)
    series[1000:] += 15
    scores = scored(steps(series))
    assert at(scores, 1050) > 5
    assert max(at(scores, step) for step in range(1150, 1300)) < 5


def test_spikes_that_come_often_are_usual() -> None:
    rng = np.random.default_rng(2)
    series = rng.normal(size=6000) + 30 * (rng.random(6000) < 0.03)
    scores = scored(steps(series))
    late = scores.at_ms > 4500 * STEP_MS
    assert (scores.score[late] > 5).mean() < 0.001


def test_a_constant_is_usual_and_its_first_move_only_tells_its_scale() -> None:
    scores = scored(steps([7.0] * 600 + [9.0] * 20 + [7.0] * 300))
    assert scores.score.max() <= 1
    assert at(scores, 500) == 0


def test_a_quantised_series_is_scored_in_its_steps() -> None:
    rng = np.random.default_rng(3)
    series = np.round(20 + 0.03 * rng.normal(size=1500), 1)
    series[1200] = 20.6
    scores = scored(steps(series))
    late = (scores.at_ms > 500 * STEP_MS) & (scores.at_ms != 1201 * STEP_MS)
    assert scores.score[late].max() < 3
    assert at(scores, 1200) > 5


def test_a_switch_has_no_incidents() -> None:
    rng = np.random.default_rng(4)
    switches = (np.repeat(rng.integers(0, 2, 40), 40) for _ in range(10))
    assert scored(steps(*switches), 10).score.max() < 5


def test_a_counter_is_scored_by_its_rate_and_may_begin_anew() -> None:
    rates = 5 + 0.5 * noise(1600)
    rates[1500:1510] = 25
    total = np.cumsum(rates) % 9000
    scores = scored(steps(total))
    late = (scores.at_ms > 900 * STEP_MS) & ((scores.at_ms < 1500 * STEP_MS) | (scores.at_ms > 1512 * STEP_MS))
    assert scores.score[late].max() < 6
    assert at(scores, 1505) > 20
    assert scores.expected[scores.at_ms == 1506 * STEP_MS] == pytest.approx(total[1504] + 5, abs=0.5)


def test_hours_without_readings_do_no_harm() -> None:
    series = noise(3000)
    series[1000:2500] = np.nan
    scores = scored(steps(series))
    assert scores.score.max() < 6
    assert at(scores, 2500) < 4


def days(count: int) -> Any:
    """A pump that runs in the seventh of the 24 parts of each day, of PART steps each."""
    part = np.arange(count * DAY) // PART % 24
    return np.where(part == 6, 50.0, 10.0) + noise(count * DAY)


def test_what_happens_each_day_is_expected_and_its_absence_is_unusual() -> None:
    series = days(6)
    series[5 * DAY + 6 * PART : 5 * DAY + 7 * PART] = 10
    scores = scored(steps(series), config=SHORT_DAY)
    plain = scored(steps(series), config=RobustConfig(season_s=1e9))
    on_the_fifth_day, on_the_sixth = (day * DAY + 6 * PART + 5 for day in (4, 5))
    assert at(scores, on_the_fifth_day) < 4
    assert at(plain, on_the_fifth_day) > 2 * at(scores, on_the_fifth_day)
    assert at(scores, on_the_sixth) > 8


def test_the_season_is_not_used_where_it_is_worse() -> None:
    series = 0.05 * np.arange(4 * DAY) + noise(4 * DAY)
    scores = scored(steps(series), config=RobustConfig(season_s=DAY * 10, every=4))
    plain = scored(steps(series), config=RobustConfig(season_s=1e9, every=4))
    assert scores.expected.tolist() == plain.expected.tolist()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_unit_makes_no_difference(scale: float) -> None:
    series = np.cumsum(noise(1000))
    both = scored(steps(series, series * scale), 2)
    assert both.score[both.slot == 1] == pytest.approx(both.score[both.slot == 0], rel=1e-6)


def test_a_sensor_that_is_stuck_is_told_and_one_that_rests_is_not() -> None:
    moving, resting = noise(3000), np.repeat(noise(30), 100)
    moving[2000:2030] = moving[1999]
    stuck = StuckSensors(StuckConfig(), STEP_MS)
    stuck.grow(2)
    scores = stuck.advance(steps(moving, resting))
    assert scores.score[2010] > 2
    assert scores.score[:2000].max() < 1
    assert scores.score[3000:].max() == 0


def test_a_series_that_pauses_often_is_known_for_it() -> None:
    pausing = noise(9000)
    for first in range(1000, 9000, 400):
        pausing[first : first + 12] = 0
    stuck = StuckSensors(StuckConfig(), STEP_MS)
    stuck.grow(1)
    scores = stuck.advance(steps(pausing)).score
    assert scores[:2000].max() > 2
    assert scores[6000:].max() < 2


def test_both_detectors_make_incidents() -> None:
    found = AnomalyConfig(robust_incidents=IncidentConfig(told_every_steps=1000))
    series = noise(1600), noise(1600, 2)
    series[0][1000:1030] += 20
    series[1][1500:1530] = series[1][1499]
    anomalies = Anomalies(found, STEP_MS)
    anomalies.grow(2)
    robust, stuck = anomalies.advance(steps(*series))
    ended = robust.rows.ended_at_ms != LASTS
    assert (robust.detector, stuck.detector) == ("robust", "stuck")
    assert robust.rows.slot.tolist() == [0, 0]
    assert robust.rows.started_at_ms.tolist() == [1001 * STEP_MS] * 2
    assert robust.rows.ended_at_ms[ended].tolist() == [1030 * STEP_MS]
    assert stuck.rows.latest().slot.tolist() == [1]
    assert stuck.rows.ended_at_ms[-1] == 1530 * STEP_MS
