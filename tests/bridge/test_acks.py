from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.acks import AckOrder, Slot

# What happens: a message comes, one of those known is confirmed by Kafka, or the connection is lost.
STEPS = st.lists(st.one_of(st.just("receive"), st.integers(0, 30), st.just("reconnect")), max_size=60)


@given(STEPS)
def test_acknowledges_the_longest_confirmed_prefix_of_the_current_connection_only(steps: list[str | int]) -> None:
    order = AckOrder()
    generation = 1
    slots: list[Slot] = []
    confirmed: set[int] = set()  # indices into slots
    acknowledged: dict[int, list[int]] = {}  # message ids by generation
    for step in steps:
        if step == "reconnect":
            generation += 1
        elif step == "receive":
            # Message ids start again on every connection, as they do when a broker has lost its session.
            count = sum(slot.generation == generation for slot in slots)
            slots.append(order.receive(generation, count + 1))
        elif isinstance(step, int) and step < len(slots):
            released = order.complete([slots[step]])
            confirmed.add(step)
            acknowledged.setdefault(slots[step].generation, []).extend(released)
            newest = max(slot.generation for slot in slots)
            if slots[step].generation < newest:
                assert released == []
            else:
                mine = [i for i, slot in enumerate(slots) if slot.generation == newest]
                prefix = next((n for n, i in enumerate(mine) if i not in confirmed), len(mine))
                assert acknowledged[newest] == list(range(1, prefix + 1))


def test_a_confirmation_from_a_lost_connection_does_not_acknowledge_its_namesake() -> None:
    order = AckOrder()
    old = order.receive(1, 7)
    new = order.receive(2, 7)
    assert order.complete([old]) == []
    assert order.complete([new]) == [7]


def test_confirming_twice_acknowledges_once() -> None:
    order = AckOrder()
    slot = order.receive(1, 1)
    assert order.complete([slot]) == [1]
    assert order.complete([slot]) == []


def test_many_at_once_are_released_in_order_of_receipt_whatever_order_they_come_in() -> None:
    order = AckOrder()
    slots = [order.receive(1, message_id) for message_id in range(1, 6)]
    assert order.complete([slots[3], slots[1]]) == []
    assert order.complete([slots[2], slots[0]]) == [1, 2, 3, 4]
