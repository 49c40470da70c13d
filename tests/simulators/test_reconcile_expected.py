from __future__ import annotations

from typing import Any

import pytest

from simulators.errors import LedgerError
from simulators.ledger import Closed, Entry, Header, Incident, Match, Refused, Served
from simulators.reconcile import Expected
from simulators.reconcile_expected import UNDELIVERED_MS, truth_of


def header(match: str, started_at: int = 100) -> Header:
    return Header("plant", 7, Match(match), started_at)


def sent(source_at: int, connection: int = 1, at: int | None = None, **values: Any) -> Served:
    return Served(at or source_at + 5, values or {"m": float(source_at)}, source_at, connection)


def frames(*entries: Entry, interval_s: float = 1.0) -> dict[int | None, bool]:
    truth = truth_of([header("frame"), *entries], interval_s=interval_s)
    return {one.source_at: one.excused for one in truth.expected.get("m", ())}


def test_every_answer_counts_where_the_source_has_no_time() -> None:
    entries = [header("served"), Served(1000, {"a": 1, "b": "x"}), Served(2000, {"a": 1}, asked_at=1500)]
    truth = truth_of(entries)
    assert truth.since_ms == 100
    assert truth.expected == {
        "a": [Expected((1,), (1000,), 1000), Expected((1,), (2000,), 1500)],
        "b": [Expected(("x",), (1000,), 1000)],
    }


def test_one_source_time_counts_once() -> None:
    entries = [
        header("source_time"),
        Served(1000, {"a": 1}, 900),
        Incident("leak", 1, None),
        Served(2000, {"a": 1}, 900),
        Served(3000, {"a": 2}, 2900),
    ]
    truth = truth_of(entries)
    assert truth.since_ms == 900
    assert truth.expected == {"a": [Expected((1,), (1000, 2000), 1000, 900), Expected((2,), (3000,), 3000, 2900)]}


def test_globs_choose_metrics() -> None:
    entries = [header("served"), Served(1, {"tank1/level": 1, "pump1/speed": 2, "mains/power": 3})]
    truth = truth_of(entries, ("tank1/*", "mains/power", "pmup1/*"))
    assert truth.expected.keys() == {"tank1/level", "mains/power"}
    assert truth.unmatched == ("pmup1/*",)


def test_refusals_are_kept_by_metric() -> None:
    entries = [header("served"), Refused(5, ("a", "b")), Served(6, {"a": 1}), Refused(7, ("a",))]
    assert truth_of(entries).refused == {"a": [5, 7], "b": [5]}


def test_the_first_frame_of_each_interval_counts() -> None:
    at = [10_000, 10_100, 10_900, 11_000, 11_500, 13_200]
    assert frames(*map(sent, at), Closed(1, 60_000)) == {10_000: False, 11_000: False, 13_200: False}
    assert frames(*map(sent, at), Closed(1, 60_000), interval_s=0.5) == dict.fromkeys(
        (10_000, 10_900, 11_000, 11_500, 13_200), False
    )


def test_each_connection_has_its_own_first_frames() -> None:
    assert frames(sent(10_000, 1), sent(10_300, 2), sent(10_400, 1), Closed(1, 60_000), Closed(2, 60_000)) == {
        10_000: False,
        10_300: False,
    }


def test_a_frame_just_before_its_connection_closed_may_be_missing() -> None:
    late, early = sent(20_000), sent(18_000)
    closed = Closed(1, late.at + UNDELIVERED_MS - 1)
    assert frames(early, late, closed) == {18_000: False, 20_000: True}
    assert frames(early, late, Closed(1, late.at + UNDELIVERED_MS)) == {18_000: False, 20_000: False}


def test_a_frame_that_also_went_to_a_lasting_connection_may_not() -> None:
    first, second = sent(20_000, 1), sent(20_000, 2)
    assert frames(first, second, Closed(1, 20_100), Closed(2, 60_000)) == {20_000: False}


def test_a_connection_that_nothing_closed_ends_with_its_run() -> None:
    assert frames(sent(20_000), sent(25_000), sent(25_500)) == {20_000: False, 25_000: True}
    runs = (sent(20_000), header("frame"), sent(40_000), sent(50_000), Closed(1, 60_000))
    assert frames(*runs) == {20_000: True, 40_000: False, 50_000: False}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "no header"),
        ([header("source_time"), Served(1, {"a": 1})], "has no source_at"),
        ([header("frame"), sent(1)], "needs interval_s"),
    ],
)
def test_a_ledger_that_cannot_be_used_says_why(entries: list[Entry], message: str) -> None:
    with pytest.raises(LedgerError, match=message):
        truth_of(entries)
