from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import cursor
from pydantic import ValidationError

from contract.manifest import Window, forecast_metric
from stream.errors import StopRequested
from stream.forecasting import tables
from stream.forecasting.cloud import Bound
from stream.forecasting.config import Binding, ForecastingConfig
from stream.forecasting.edge import Fan, fan_of, spells
from stream.forecasting.ends import due_ms, every_ms, mark_ms
from stream.forecasting.incidents import Incident, Rule, Scored, follow
from stream.forecasting.landing import Landing
from stream.forecasting.measures import is_covered, median_of, pinball, seasons
from stream.forecasting.watched import Device, Watched, device_pattern

RULE = Rule(threshold=5.0, clear=2.0, minimum_ms=3000)


def test_ends_are_whole_steps_and_the_newest_ones() -> None:
    window = Window(length=3, step_s=5)
    assert [every_ms(window, each) for each in (None, 1, 12, 13)] == [5000, 5000, 10_000, 15_000]
    assert list(due_ms(None, 23_000, 5000, 10)) == [20_000]
    assert list(due_ms(10_000, 23_000, 5000, 10)) == [15_000, 20_000]
    assert list(due_ms(10_000, 123_000, 5000, 2)) == [115_000, 120_000]
    assert list(due_ms(20_000, 23_000, 5000, 10)) == []


@given(
    done=st.none() | st.integers(0, 10**6),
    mark=st.integers(0, 10**6),
    every=st.integers(1, 10**4),
    most=st.integers(1, 50),
)
def test_no_end_is_due_twice_early_or_beyond_the_limit(done: int | None, mark: int, every: int, most: int) -> None:
    ends = due_ms(done, mark, every, most)
    assert len(ends) <= most
    assert all(end % every == 0 and (done is None or end > done) and mark - most * every < end <= mark for end in ends)
    if ends:
        assert not due_ms(ends[-1], mark, every, most)


def test_what_is_behind_is_waited_for_by_the_readings_own_time() -> None:
    assert mark_ms([None, None], 5000) is None
    assert mark_ms([20_000, 18_000], 5000) == 18_000
    assert mark_ms([20_000, 3_000], 5000) == 15_000
    assert mark_ms([20_000, None], 5000) == 15_000


def told(*scores: float) -> list[Scored]:
    return [Scored(1000 * second, score) for second, score in enumerate(scores)]


def test_hysteresis_and_the_least_duration() -> None:
    lasting, new = follow(None, told(0, 6, 7, 3, 4, 3, 1, 6), RULE)
    assert new == []  # 3 s have not passed before it was below the threshold again
    assert lasting is not None
    assert (lasting.started_ms, lasting.is_told) == (7000, False)
    lasting, new = follow(None, told(0, 6, 7, 9, 8, 3, 4, 1, 0), RULE)
    assert (lasting, new) == (None, [Incident(1000, 3000, 9, 5, (), 7000, is_told=True)])


@given(scores=st.lists(st.floats(0, 10), max_size=30), cut=st.integers(0, 30))
def test_incidents_are_the_same_wherever_a_restart_cuts(scores: list[float], cut: int) -> None:
    whole = follow(None, told(*scores), RULE)
    lasting, first = follow(None, told(*scores)[:cut], RULE)
    again = Incident.parse(None if lasting is None else lasting.document())
    last, second = follow(again, told(*scores)[cut:], RULE)
    rows = {each.started_ms: each for each in (*first, *second)}
    assert (None if last is None else last.document()) == (None if whole[0] is None else whole[0].document())
    assert {key: each.document() for key, each in rows.items()} == {e.started_ms: e.document() for e in whole[1]}


def test_a_forecasts_metric_is_read_as_it_is_written() -> None:
    for target, horizon_ms, quantile in (("level", 5000, 0.1), ("tank 2/level", 500, 0.025), ("p/30s/x", 60_000, 0.5)):
        assert fan_of(forecast_metric(target, horizon_ms, quantile)) == (Fan(target, horizon_ms), quantile)
    for other in ("score", "contribution/level", "level/0s/p10", "level/5s/p100", "level/5s/p10/x", "model/version"):
        assert fan_of(other) is None


def test_spells_of_an_alarm() -> None:
    times = np.arange(6) * 1000
    assert spells(times, [False, True, True, False, False, True]) == [(1000, 3000), (5000, None)]
    assert spells(times[:0], []) == []


def test_a_day_of_late_results_does_not_hold_up_the_stop() -> None:
    stop = threading.Event()
    stop.set()
    landing, watched = Landing(tables.Forecasters(), 86_400_000, stop), Watched(Device("g", "n", "d"), "")
    with pytest.raises(StopRequested):
        landing.land_spans(create_autospec(cursor), create_autospec(Bound), [(watched, 0, 86_400_000)])


def test_measures_by_hand() -> None:
    quantiles = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    came = np.array([3.0, 0.0, np.nan])
    levels = (0.1, 0.5, 0.9)
    losses = [(0.2 + 0.5 + 0.1) / 3, (0.9 + 1.0 + 0.4) / 3]
    np.testing.assert_allclose(pinball(came, quantiles, levels)[:2], losses)
    assert np.isnan(pinball(came, quantiles, levels)[2])
    covered = is_covered(came, quantiles, levels)
    assert covered is not None
    assert covered[:2].tolist() == [True, False]
    assert is_covered(came, quantiles, (0.1, 0.5, 0.8)) is None
    np.testing.assert_allclose(median_of(quantiles, levels), [2, 2, 2])
    np.testing.assert_allclose(median_of(quantiles, (0.1, 0.4, 0.6)), [3, 3, 3])
    assert [seasons(horizon, 10) for horizon in (1, 10, 11, 25)] == [10, 10, 20, 30]


def test_a_star_stops_at_a_slash() -> None:
    matches = re.compile(device_pattern("g/*/li.e-?"))
    found = [each for each in ("g/n/li.e-a", "g/n/m/li.e-a", "g/n/line-a", "g/n/li.e-ab") if matches.fullmatch(each)]
    assert found == ["g/n/li.e-a"]
    assert Device.parse("g/n/d/e") == ("g", "n", "d/e")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"devices": ["plant"]}, "should match pattern"),
        ({"devices": []}, "at least 1"),
        (
            {"metrics": {"price": "{symbol}/price"}},
            "{symbol} is not known: allowed are {device}, {group}, {node}, {sub",
        ),
        ({"metrics": {"price": "{subject"}}, "expected '}' before end of string"),
        ({"edge": "{group}/{model}"}, "should match pattern"),
        ({"every_s": 0}, "greater than 0"),
        ({"device": "g/n/d"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_binding_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("{", r"\{").replace("}", r"\}")):
        ForecastingConfig(
            models_dir=Path("models"), bindings=(Binding(**({"model": "tank", "devices": ["g/n/d"]} | wrong)),)
        )
