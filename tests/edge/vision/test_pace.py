from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edge.vision.analysis import Elapsed
from edge.vision.hold import Held
from edge.vision.pace import Pace


class Machine:
    """A processor and a clock."""

    def __init__(self) -> None:
        self.used_s = 0.0
        self.now_s = 1000.0

    def works(self, seconds: float) -> None:
        self.used_s += seconds
        self.now_s += seconds

    def waits(self, seconds: float) -> None:
        self.now_s += seconds


@given(
    share=st.floats(0.05, 1.0),
    frames=st.lists(st.tuples(st.floats(0, 0.05), st.floats(0, 0.5), st.floats(0, 0.2)), min_size=50, max_size=300),
)
def test_no_more_than_the_share_is_taken(share: float, frames: list[tuple[float, float, float]]) -> None:
    machine = Machine()
    pace = Pace(share, lambda: machine.used_s, lambda: machine.now_s)
    for receive_s, look_s, gap_s in frames:
        machine.works(receive_s)
        if pace.is_overdrawn():
            machine.waits(pace.pause_s)
        else:
            machine.works(look_s)
        machine.waits(gap_s)
        # What was saved up, one frame that was begun within the means, and what may be owed.
        assert machine.used_s <= share * (machine.now_s - 1000.0 + 1.0) + 0.5 + 0.05 + 0.1 + 1e-9


def test_what_fits_is_never_left_out() -> None:
    machine = Machine()
    pace = Pace(0.5, lambda: machine.used_s, lambda: machine.now_s)
    for _ in range(1000):
        assert not pace.is_overdrawn()
        machine.works(0.02)
        machine.waits(0.03)


def test_receiving_alone_is_slowed_down_where_it_takes_too_much() -> None:
    machine = Machine()
    pace = Pace(0.2, lambda: machine.used_s, lambda: machine.now_s)
    for _ in range(2000):
        machine.works(0.03)
        if pace.is_overdrawn():
            machine.waits(pace.pause_s)
    assert 0.19 < machine.used_s / (machine.now_s - 1000.0) < 0.22


@given(times=st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50))
def test_elapsed_time_never_runs_backwards_nor_leaps(times: list[float]) -> None:
    elapsed = Elapsed()
    found = [elapsed.at(time_ms) for time_ms in times]
    assert all(0 <= later - earlier <= 60 + 1e-6 for earlier, later in itertools.pairwise(found))


def test_a_state_that_flaps_between_two_faults_is_told() -> None:
    held = Held("none", after_s=5, clear_s=5)
    said = [held.look(("blurred", "moved")[at_s % 2], at_s) for at_s in range(8)]
    assert said[:5] == ["none"] * 5
    assert said[5] == "moved"


def test_a_state_that_breaks_off_begins_again() -> None:
    held = Held(False, after_s=2, clear_s=2)  # noqa: FBT003 - the state it rests in
    assert [held.look(seen, at_s) for at_s, seen in enumerate([True, True, False, True, True, True])] == [
        *[False] * 5,
        True,
    ]
