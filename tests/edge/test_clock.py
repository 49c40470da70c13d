"""The clock, driven by hand: a wall clock that is set, a monotonic one that is not, a kernel that knows better."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from edge import clock
from edge.clock import AnchoredClock, ClockState, MachineClock, boot_id, kernel_is_synchronised, since_boot_ns

if TYPE_CHECKING:
    import ctypes

    import pytest

MS = 1_000_000
BOOT_MS = 1_710_000_000_000


class Clocks:
    """What the machine says: `passes` moves both, `is_set` the wall alone."""

    def __init__(self, wait_s: float = 0.0, wall_ms: int = BOOT_MS) -> None:
        self.wall_ns, self.monotonic_ns, self.synchronised = wall_ms * MS, 5 * MS, False
        self.clock = AnchoredClock(
            wait_s,
            MachineClock(
                lambda: self.wall_ns, lambda: self.monotonic_ns, lambda: self.monotonic_ns, lambda: self.synchronised
            ),
        )

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


def test_what_is_held_against_others_times_is_right_as_soon_as_the_wall_is() -> None:
    machine = Clocks()
    year_ms = 365 * 86_400_000
    machine.is_set(year_ms)
    machine.passes(60_000)
    machine.is_set(-year_ms)
    assert machine.passes(1000) > BOOT_MS + year_ms, "readings wait for the wall"
    assert machine.clock.known_wall_ms() == BOOT_MS + 61_000


@given(st.lists(st.tuples(st.integers(-(10**8), 10**8), st.integers(2, 10**6)), max_size=30))
def test_whatever_is_done_to_the_wall_two_polls_never_share_a_time(steps: list[tuple[int, int]]) -> None:
    machine = Clocks()
    times = [machine.clock.now_ms()]
    for by_ms, passed_ms in steps:
        machine.is_set(by_ms)
        times.append(machine.passes(passed_ms))
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_until_the_kernel_is_synchronised_the_time_is_that_since_boot(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    machine = Clocks(wait_s=300)
    machine.clock.not_before(0)
    assert machine.passes(1000) == 1005
    assert (machine.clock.state, machine.clock.booted_ms(), machine.clock.wall_offset_ms()) == ("waiting", None, 0)
    assert machine.clock.utc_ms() == BOOT_MS + 1000
    assert machine.clock.known_wall_ms() is None
    assert "or in 298 s" in machine.clock.explain()
    # The wall may be set more than once before it is right.
    machine.is_set(-50_000)
    assert machine.passes(1000) == 2005
    machine.is_set(3_600_000)
    machine.synchronised = True
    assert machine.passes(1000) == BOOT_MS + 3_553_000
    assert machine.clock.state is ClockState.SYNCHRONISED
    assert machine.clock.booted_ms() == BOOT_MS + 3_553_000 - 3005
    machine.passes(10_000)
    assert machine.clock.booted_ms() == BOOT_MS + 3_553_000 - 3005, "for good"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_machine_that_nobody_sets_is_believed_after_a_while() -> None:
    machine = Clocks(wait_s=300)
    assert machine.passes(299_000) == 299_005
    assert machine.passes(1000) == BOOT_MS + 300_000
    assert (machine.clock.state, str(machine.clock.state)) == (ClockState.UNSYNCHRONISED, "trusted without sync")
    machine.is_set(60_000)
    assert machine.passes(1) == BOOT_MS + 360_001, "NTP after all: followed"
    machine.synchronised = True
    assert "is synchronised" in machine.clock.explain()


def test_a_process_that_starts_long_after_boot_does_not_wait() -> None:
    machine = Clocks()
    machine.monotonic_ns += 400_000 * MS
    again = AnchoredClock(300, machine.clock._machine)
    assert again.now_ms() == BOOT_MS


def test_a_clock_of_before_2024_is_never_believed() -> None:
    machine = Clocks(wait_s=10, wall_ms=3600_000)
    machine.synchronised = True
    assert machine.passes(100_000) == 100_005
    assert "1970-01-01 01:01:40 UTC, before 2024-01-01 00:00:00 UTC: wrong" in machine.clock.explain()
    assert Clocks(wait_s=0, wall_ms=3600_000).passes(1) == 6, "not even where it is not waited for"


def test_a_clock_behind_what_was_kept_is_believed_only_when_it_is_synchronised() -> None:
    machine = Clocks(wait_s=10)
    machine.passes(20_000)
    assert machine.clock.booted_ms() is not None
    machine.clock.not_before(BOOT_MS + 60_000)
    assert machine.clock.state is ClockState.WAITING
    assert machine.passes(30_000) == 50_005
    assert machine.passes(10_000) == BOOT_MS + 60_000, "it has caught up"
    machine = Clocks(wait_s=10)
    machine.synchronised = True
    machine.clock.not_before(BOOT_MS + 60_000)
    assert machine.passes(1) == BOOT_MS + 1, "what was kept had the wrong time"
    machine = Clocks(wait_s=0)
    machine.clock.not_before(BOOT_MS + 60_000)
    assert machine.passes(1) == BOOT_MS + 1, "believed in any case, where the configuration says so"


def test_what_the_machine_says_of_itself() -> None:
    assert abs(since_boot_ns() / 1e9 - float(Path("/proc/uptime").read_text().split()[0])) < 5
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()
    assert isinstance(kernel_is_synchronised(), bool)


def test_whether_the_kernel_is_synchronised_is_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"status": 0x40, "result": 5}

    class Libc:
        @staticmethod
        def adjtimex(timex: ctypes.Array[ctypes.c_long]) -> int:
            timex[5] = said["status"]
            return said["result"]

    monkeypatch.setattr(clock, "_libc", Libc)
    assert not kernel_is_synchronised()
    said |= {"status": 0x2001, "result": 0}
    assert kernel_is_synchronised()
    said["result"] = -1
    assert not kernel_is_synchronised(), "not allowed to ask"
