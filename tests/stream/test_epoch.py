from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.ingest.epoch import GRACE_MS, MAX_FILLED, MAX_HOLES, Account, GapRow

NOW = 1_700_000_000_000
LATER = NOW + 1_000_000


def taken(*stamps: tuple[int, int | None, int]) -> Account:
    """The account after records (batch, oldest, seconds since NOW)."""
    account = Account(NOW - 1000)
    for batch_no, oldest, at_s in stamps:
        account.take(batch_no, oldest, NOW + at_s * 1000)
    return account


def standing(account: Account) -> set[tuple[int, int, str, int, int]]:
    account.tell(LATER)
    return {(gap.first, gap.last, gap.state, gap.from_ms, gap.to_ms) for gap in account.gaps() if gap.closed_ms is None}


def test_batches_in_order_leave_no_hole() -> None:
    account = taken((1, 1, 0), (2, 1, 1), (3, 3, 2))
    assert account.missing() == {"open": 0, "given_up": 0, "earlier": 0}
    assert (account.newest, list(account.gaps()), account.pending_since_ms()) == (3, [], None)


def test_a_hole_is_told_after_the_grace_and_not_before() -> None:
    account = taken((1, 1, 0), (4, 1, 1), (5, 1, 30))
    assert list(account.gaps()) == []
    assert account.pending_since_ms() == NOW + 1000
    account.take(6, 1, NOW + 1000 + GRACE_MS)
    opened_ms = NOW + 1000 + GRACE_MS
    assert list(account.gaps()) == [GapRow(2, 3, 2, "open", NOW, NOW + 1000, opened_ms, None)]
    assert account.pending_since_ms() is None


def test_a_hole_that_is_filled_within_the_grace_was_never_told() -> None:
    account = taken((1, 1, 0), (3, 1, 1), (2, 1, 2), (4, 1, 100))
    assert (list(account.gaps()), account.missing()["open"]) == ([], 0)


def test_what_comes_after_it_was_told_closes_the_gap() -> None:
    account = taken((1, 1, 0), (5, 1, 1), (2, 1, 100), (3, 1, 101))
    assert [gap[:4] for gap in account.gaps()] == [(4, 4, 1, "open"), (2, 3, 2, "filled")]
    account.take(4, 1, NOW + 102_000)
    assert list(account.gaps()) == [GapRow(2, 4, 3, "filled", NOW, NOW + 1000, NOW + 31_000, NOW + 102_000)]


def test_what_the_node_no_longer_keeps_is_given_up() -> None:
    account = taken((1, 1, 0), (6, 1, 1), (7, 4, 2))
    assert standing(account) == {(2, 3, "given_up", NOW, NOW + 1000), (4, 5, "open", NOW, NOW + 1000)}
    assert account.missing() == {"open": 2, "given_up": 2, "earlier": 0}


def test_what_was_gone_before_the_first_message_is_told_apart() -> None:
    account = taken((9, 5, 0), (10, 9, 1))
    assert standing(account) == {(1, 4, "earlier", NOW - 1000, NOW), (5, 8, "given_up", NOW - 1000, NOW)}


def test_a_bridge_that_does_not_tell_oldest_holds_nothing_earlier_against_the_node() -> None:
    assert {gap[2] for gap in standing(taken((9, None, 0), (10, None, 1)))} == {"earlier"}
    assert (2, 4, "open") in {gap[:3] for gap in standing(taken((1, None, 0), (5, None, 1)))}


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[int, int | None, int]]:
    """Records of an epoch: batches of which some are missing, each with times and an oldest that may be wrong."""
    batches = draw(st.lists(st.integers(1, 30), min_size=1, max_size=40))
    return [(no, draw(st.none() | st.integers(1, no)), draw(st.integers(0, 200))) for no in batches]


@given(logs(), st.randoms())
def test_what_is_missing_does_not_depend_on_order_or_repetition(
    log: list[tuple[int, int | None, int]], random: object
) -> None:
    shuffled = log + log[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' Random
    first, second = taken(*log), taken(*shuffled)
    assert standing(first) == standing(second)
    assert first.missing() == second.missing()
    seen = {no for no, _, _ in log}
    told = {no for gap in standing(first) for no in range(gap[0], gap[1] + 1)}
    assert told == set(range(1, max(seen) + 1)) - seen
    assert sum(first.missing().values()) == len(told)


@given(logs())
def test_gap_rows_differ_in_their_first_batch_and_are_in_order(log: list[tuple[int, int | None, int]]) -> None:
    account = taken(*log)
    gaps = list(account.gaps())
    assert len({gap.first for gap in gaps}) == len(gaps)
    assert all(gap.first <= gap.last and gap.from_ms <= gap.to_ms and gap.batches >= 1 for gap in gaps)


@pytest.mark.parametrize("step", [2, 10**15])
def test_a_mad_node_cannot_make_it_grow(step: int) -> None:
    account = taken(*((1 + n * step, 1, n) for n in range(500)))
    account.tell(LATER)
    assert len(account.holes) == MAX_HOLES
    missing = 499 * (step - 1)
    assert account.missing() == {"open": missing, "given_up": 0, "earlier": 0}
    assert sum(gap.batches for gap in account.gaps()) == missing, "coarse, but counted in full"
    before = list(account.gaps())
    account.take(4 if step == 2 else 7, 1, LATER)
    assert list(account.gaps()) == before, "nobody knows whether this was missing"
    for hole in account.holes[1:]:
        for batch_no in range(hole.first, min(hole.last, hole.first + 3) + 1, 2):
            account.take(batch_no, 1, LATER)
    assert len(account.filled) <= MAX_FILLED
    assert len(account.holes) <= MAX_HOLES
