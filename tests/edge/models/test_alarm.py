"""When a score is an alarm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.models.alarm import Hysteresis


def test_it_is_on_above_the_threshold_until_below_the_lower_one() -> None:
    alarm = Hysteresis(3.0, 2.0)
    seen = [alarm.look(score) for score in (3.0, 3.1, 2.5, 2.0, 1.9, 2.5, 3.5)]
    assert seen == [False, True, True, True, False, False, True]


@given(st.floats(0.1, 10), st.floats(0.1, 1), st.lists(st.floats(0, 20), max_size=30))
def test_it_changes_only_outside_the_band(threshold: float, share: float, scores: list[float]) -> None:
    alarm = Hysteresis(threshold, threshold * share)
    for score in scores:
        before = alarm.is_on
        now = alarm.look(score)
        assert not now or before or score > threshold
        assert now or not before or score < threshold * share
