from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.gate import Gate
from bridge.packets import PUBLISH, Publish


def admits(gate: Gate, generation: int, *sizes: int, again: bool = True) -> list[int]:
    """The sizes of those that are let in of messages that come at once."""
    header = PUBLISH | (2 if again else 0)
    offered = [Publish(header, b"t", 1, b"", b"", size) for size in sizes]
    return [message.size_bytes for message in gate.admit(generation, offered)]


def test_past_the_bytes_nothing_of_that_connection_comes_in_even_when_there_is_room_again() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    assert admits(gate, 1, 60, 60, 10) == [60]
    gate.release(1, 60, again=True)
    assert not admits(gate, 1, 1), "it would overtake the one that was refused"
    assert admits(gate, 2, 60) == [60]
    assert gate.turned_away == 3


def test_starved_once_all_is_delivered_and_says_how_many_fitted() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    assert gate.starved(1) is None
    assert admits(gate, 1, 30, 30, 30, 30) == [30, 30, 30]
    assert gate.starved(1) is None, "three are still in flight"
    gate.release(3, 90, again=True)
    assert gate.starved(1) == 3
    assert gate.starved(2) is None, "a new connection has been refused nothing"


def test_one_message_above_the_bound_passes_alone() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    assert admits(gate, 1, 1000, 1) == [1000]


def test_a_message_that_the_broker_does_not_send_again_closes_nothing() -> None:
    gate = Gate(max_messages=1, max_bytes=100)
    assert admits(gate, 1, 1, 1, again=False) == [1]
    gate.release(1, 1, again=False)
    assert admits(gate, 1, 1, again=False) == [1]


def test_a_flood_at_qos_0_takes_no_room_of_what_the_broker_sends_again() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    assert admits(gate, 1, *[10] * 50, again=False) == [10] * 5, "half the bytes"
    assert admits(gate, 1, *[1] * 50, again=False) == []
    assert admits(gate, 1, *[10] * 10) == [10] * 10
    assert (gate.messages, gate.bytes) == (15, 150)
    gate.release(10, 100, again=True)
    assert admits(gate, 1, 10) == [10]
    few = Gate(max_messages=10, max_bytes=100)
    assert len(admits(few, 1, *[1] * 50, again=False)) == len(admits(few, 1, *[1] * 10)) == 10


def test_a_connection_that_was_refused_something_is_replaced_while_qos_0_is_still_in_flight() -> None:
    gate = Gate(max_messages=10, max_bytes=100)
    admits(gate, 1, 10, again=False)
    admits(gate, 1, 90, 90)
    gate.release(1, 90, again=True)
    assert gate.starved(1) == 1


def test_closed_lets_nothing_in_and_never_asks_for_a_new_connection() -> None:
    gate = Gate(max_messages=1, max_bytes=100)
    gate.close()
    assert not admits(gate, 1, 1)
    assert gate.starved(1) is None


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 200), max_size=4), st.booleans()), max_size=80))
def test_the_bounds_hold(steps: list[tuple[bool, list[int], bool]]) -> None:
    gate = Gate(max_messages=4, max_bytes=300)
    inside: dict[bool, list[int]] = {True: [], False: []}
    for generation, (leave, sizes, again) in enumerate(steps):
        if leave and inside[again]:
            gate.release(1, inside[again].pop(), again=again)
        else:
            inside[again] += admits(gate, generation, *sizes, again=again)
        both = inside[True] + inside[False]
        assert (gate.messages, gate.bytes) == (len(both), sum(both))
        for kind, most in ((True, 300), (False, 150)):
            assert len(inside[kind]) <= 4
            assert sum(inside[kind]) <= most or len(inside[kind]) == 1
