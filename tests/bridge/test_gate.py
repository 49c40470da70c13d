from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.gate import Gate


def test_past_the_bytes_nothing_of_that_connection_comes_in_even_when_there_is_room_again() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    assert gate.admit(1, 60, again=True)
    assert not gate.admit(1, 60, again=True)
    gate.release(60)
    assert not gate.admit(1, 1, again=True), "it would overtake the one that was refused"
    assert gate.admit(2, 60, again=True)
    assert gate.turned_away == 2


def test_starved_once_all_is_delivered_and_says_how_many_fitted() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    assert gate.starved(1) is None
    for _ in range(3):
        assert gate.admit(1, 30, again=True)
    gate.admit(1, 30, again=True)
    assert gate.starved(1) is None, "three are still in flight"
    for _ in range(3):
        gate.release(30)
    assert gate.starved(1) == 3
    assert gate.starved(2) is None, "a new connection has been refused nothing"


def test_one_message_above_the_bound_passes_alone() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    assert gate.admit(1, 1000, again=True)
    assert not gate.admit(1, 1, again=True)


def test_a_message_that_the_broker_does_not_send_again_closes_nothing() -> None:
    gate = Gate(max_messages=1, max_bytes=100)
    assert gate.admit(1, 1, again=True)
    assert not gate.admit(1, 1, again=False)
    gate.release(1)
    assert gate.admit(1, 1, again=True)


def test_closed_lets_nothing_in_and_never_asks_for_a_new_connection() -> None:
    gate = Gate(max_messages=1, max_bytes=100)
    gate.close()
    assert not gate.admit(1, 1, again=True)
    assert gate.starved(1) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200), st.booleans()), max_size=80))
def test_the_bounds_hold(steps: list[tuple[bool, int, bool]]) -> None:
    gate = Gate(max_messages=4, max_bytes=300)
    inside: list[int] = []
    for generation, (leave, size, again) in enumerate(steps):
        if leave and inside:
            gate.release(inside.pop())
        elif gate.admit(generation, size, again=again):
            inside.append(size)
        assert (gate.messages, gate.bytes) == (len(inside), sum(inside))
        assert len(inside) <= 4
        assert sum(inside) <= 300
