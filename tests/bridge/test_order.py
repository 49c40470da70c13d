from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.order import SeqOrder


def started(seq: int = 0) -> SeqOrder[str]:
    order: SeqOrder[str] = SeqOrder()
    order.restart(seq)
    return order


def test_the_first_number_heard_is_taken_as_it_is() -> None:
    order: SeqOrder[str] = SeqOrder()
    assert order.take(77, "a") == ["a"]
    assert order.take(78, "b") == ["b"]
    assert order.take(80, "d") == []


def test_a_message_without_a_number_passes() -> None:
    order = started()
    assert order.take(2, "late") == []
    assert order.take(None, "a") == ["a"]


def test_one_that_repeats_the_last_passes_and_changes_nothing() -> None:
    order = started(4)
    assert order.take(5, "a") == ["a"]
    assert order.take(5, "again") == ["again"]
    assert order.take(6, "b") == ["b"]


def test_numbers_go_round() -> None:
    order = started(254)
    assert order.take(0, "b") == []
    assert order.take(255, "a") == ["a", "b"]
    assert order.take(1, "c") == ["c"]


def test_giving_up_lets_pass_in_order_and_goes_on_from_there() -> None:
    order = started(250)
    for seq, item in ((1, "d"), (253, "b"), (255, "c")):
        assert order.take(seq, item) == []
    assert order.give_up() == ["b", "c", "d"]
    assert not order.give_up()
    assert order.take(2, "e") == ["e"]


def test_a_number_that_already_waits_passes_and_displaces_nothing() -> None:
    order = started()
    assert order.take(5, "a") == []
    assert order.take(5, "again") == ["again"]
    assert order.give_up() == ["a"]


@given(st.integers(0, 255), st.integers(1, 100).flatmap(lambda n: st.permutations(range(n))))
def test_whatever_order_they_come_in_they_leave_in_theirs(start: int, arrivals: list[int]) -> None:
    order: SeqOrder[int] = SeqOrder()
    order.restart(start)
    passed = [item for n in arrivals for item in order.take((start + 1 + n) % 256, n)]
    assert passed == sorted(arrivals)
    assert not len(order)
