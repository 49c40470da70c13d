"""The clock, driven by hand: a wall clock that is set, and a monotonic one that is not."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from edge.clock import AnchoredClock

if TYPE_CHECKING:
    import pytest

MS = 1_000_000
BOOT_MS = 1_700_000_000_000


class Clocks:
    """What the machine says: `passes` moves both, `is_set` the wall alone."""

    def __init__(self) -> None:
        self.wall_ns, self.monotonic_ns = BOOT_MS * MS, 5 * MS
        self.clock = AnchoredClock(lambda: self.wall_ns, lambda: self.monotonic_ns)

    def passes(self, ms: int) -> int:
        self.wall_ns += ms * MS
        self.monotonic_ns += ms * MS
        return self.clock.now_ms()

    def is_set(self, by_ms: int) -> None:
        self.wall_ns += by_ms * MS


def test_it_follows_the_machine_s_clock() -> None:
    clock = AnchoredClock()
    assert abs(clock.now_ms() - time.time() * 1000) < 1000
    assert abs(clock.wall_offset_ms()) <= 5


def test_a_clock_that_is_set_forward_is_followed_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Clocks()
    assert machine.passes(100) == BOOT_MS + 100
    machine.is_set(3_600_000)
    assert [machine.passes(10), machine.passes(10)] == [BOOT_MS + 3_600_110, BOOT_MS + 3_600_120]
    assert machine.clock.wall_offset_ms() == 0
    assert [record.message for record in caplog.records] == [
        "the system's clock was set forward by 3600.0 s: readings follow it"
    ]


def test_what_is_less_than_a_step_moves_no_reading(caplog: pytest.LogCaptureFixture) -> None:
    machine = Clocks()
    machine.is_set(900)
    assert machine.passes(10) == BOOT_MS + 10
    machine.is_set(-1800)
    assert machine.passes(10) == BOOT_MS + 20
    assert not caplog.records


def test_a_clock_that_is_set_back_is_waited_for_at_half_speed(caplog: pytest.LogCaptureFixture) -> None:
    machine = Clocks()
    machine.is_set(-10_000)
    assert [machine.passes(1000) for _ in range(3)] == [BOOT_MS + 500, BOOT_MS + 1000, BOOT_MS + 1500]
    for _ in range(17):
        machine.passes(1000)
    assert machine.clock.wall_offset_ms() == 0
    assert machine.passes(1000) == BOOT_MS + 21_000 - 10_000
    assert len(caplog.records) == 1
    machine.is_set(-10_000)
    machine.passes(1)
    assert len(caplog.records) == 2, "the next time is told again"


@given(st.lists(st.tuples(st.integers(-(10**8), 10**8), st.integers(2, 10**6)), max_size=30))
def test_whatever_is_done_to_the_wall_two_polls_never_share_a_time(steps: list[tuple[int, int]]) -> None:
    machine = Clocks()
    times = [machine.clock.now_ms()]
    for by_ms, passed_ms in steps:
        machine.is_set(by_ms)
        times.append(machine.passes(passed_ms))
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
