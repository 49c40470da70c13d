"""What a technician reads of faults: each once, its end once, and no flood of one that comes and goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from edge.sources.modbus.fault_log import STEADY_S, FaultLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEAD = {"unit 2": "no answer in time"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is told, from INFO on."""
    caplog.set_level(logging.INFO)
    return caplog


def tell(polls: Iterable[tuple[float, Mapping[str, str]]], log: FaultLog | None = None) -> FaultLog:
    """The faults of some polls and when they were."""
    log = log or FaultLog("plant", "modbus LINE")
    for now, faults in polls:
        log.tell(faults, now)
    return log


def test_a_fault_is_told_once_and_its_end_once(lines: pytest.LogCaptureFixture) -> None:
    tell([(s, DEAD) for s in range(500)] + [(s, {}) for s in range(500, 1000)])
    assert lines.messages == [
        "plant: modbus LINE unit 2: no answer in time",
        "plant: modbus LINE unit 2 reads again",
    ]


def test_another_reason_is_told(lines: pytest.LogCaptureFixture) -> None:
    tell([(0, DEAD), (100, {"unit 2": "device busy (exception 6)"})])
    assert lines.messages[1:] == ["plant: modbus LINE unit 2: device busy (exception 6)"]


@pytest.mark.parametrize(("ends", "last"), [({}, "unit 2 reads again"), (DEAD, "unit 2: no answer in time")])
def test_what_comes_and_goes_for_a_day_is_hardly_told_of(
    ends: dict[str, str], last: str, lines: pytest.LogCaptureFixture
) -> None:
    log = tell((second, DEAD if second // 5 % 2 else {}) for second in range(86_400))
    assert len(lines.messages) == 3
    assert lines.messages[2].endswith("unit 2: no answer in time (it comes and goes: told again once it is steady)")
    # Steady at last: whichever it is, once, even where that was the last word before.
    tell([(86_400, ends), (86_400 + 2 * STEADY_S, ends), (86_400 + 4 * STEADY_S, ends)], log)
    assert [message for message in lines.messages[3:] if message.endswith(last)] == lines.messages[3:]
    assert len(lines.messages) == (4 if ends == {} else 3)


def test_places_that_read_again_are_forgotten() -> None:
    log = tell((at, {f"input {at}": "busy"}) for at in range(0, 100_000, 100))
    assert len(log._places) < 5


def test_every_line_says_whose_it_is(lines: pytest.LogCaptureFixture) -> None:
    tell([(0, DEAD), (1, {})])
    assert [record.source for record in lines.records] == ["plant", "plant"]  # type: ignore[attr-defined]  # our extra
