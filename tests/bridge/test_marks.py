from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.marks import MAX_EPOCHS, MAX_INTERVALS, Durable, DurableMarks
from bridge.stamp import Stamp
from contract.delivery import DurableMark

NODE = ("plant", "edge-1")
BATCHES = st.integers(1, 40)


def stamp(batch_no: int, oldest: int = 1, epoch: int = 1) -> Stamp:
    return Stamp(epoch, batch_no, oldest)


def highest_without_holes(batches: set[int], base: int) -> int:
    through = base
    while through + 1 in batches:
        through += 1
    return through


@given(st.lists(st.one_of(BATCHES, BATCHES.map(lambda n: -n)), max_size=60), st.integers(0, 5))
def test_through_is_what_counting_by_hand_gives(steps: list[int], base: int) -> None:
    durable = Durable(base)
    batches = set(range(1, base + 1))
    for step in steps:
        if step > 0:
            durable.add(step)
            batches.add(step)
        else:
            durable.skip_below(-step)
            batches |= set(range(1, -step))
        assert durable.through == highest_without_holes(batches, 0)


@given(st.lists(BATCHES, max_size=60), st.integers(1, 4))
def test_a_bounded_memory_never_claims_too_much_and_catches_up_by_resending(seen: list[int], bound: int) -> None:
    durable = Durable(0, max_intervals=bound)
    for batch_no in seen:
        durable.add(batch_no)
        assert len(durable._beyond) <= bound
    assert durable.through <= highest_without_holes(set(seen), 0)
    for batch_no in range(1, 41):
        durable.add(batch_no)
    assert durable.through == 40


@given(st.lists(st.tuples(st.integers(1, 3), BATCHES, BATCHES), max_size=60))
def test_every_mark_is_true_for_its_epoch(arrivals: list[tuple[int, int, int]]) -> None:
    marks = DurableMarks(max_epochs=2)
    in_kafka: dict[int, set[int]] = {}
    for epoch, batch_no, oldest in arrivals:
        known = in_kafka.setdefault(epoch, set())
        known |= set(range(1, min(oldest, batch_no))) | {batch_no}
        marks.acknowledged(NODE, stamp(batch_no, min(oldest, batch_no), epoch))
        for node, mark in marks.take_news():
            assert node == NODE
            assert mark.epoch == epoch
            assert mark.through >= batch_no
            assert mark.through <= highest_without_holes(known, 0)


def test_news_is_coalesced_and_told_once() -> None:
    marks = DurableMarks()
    for batch_no in (1, 2, 3):
        marks.acknowledged(NODE, stamp(batch_no))
    assert marks.take_news() == [(NODE, DurableMark(1, 3))]
    assert marks.take_news() == []


def test_a_batch_beyond_a_hole_is_no_news_until_the_hole_is_filled() -> None:
    marks = DurableMarks()
    marks.acknowledged(NODE, stamp(2))
    assert marks.take_news() == []
    marks.acknowledged(NODE, stamp(1))
    assert marks.take_news() == [(NODE, DurableMark(1, 2))]


def test_a_resent_batch_is_news_for_its_mark_may_have_been_lost() -> None:
    marks = DurableMarks()
    marks.acknowledged(NODE, stamp(1))
    marks.take_news()
    marks.acknowledged(NODE, stamp(1))
    assert marks.take_news() == [(NODE, DurableMark(1, 1))]


def test_a_late_message_of_an_old_spool_is_answered_for_that_spool() -> None:
    marks = DurableMarks()
    marks.acknowledged(NODE, stamp(1, epoch=20))
    marks.acknowledged(NODE, stamp(9, oldest=9, epoch=10))
    marks.acknowledged(NODE, stamp(2, epoch=20))
    assert set(marks.take_news()) == {(NODE, DurableMark(20, 2)), (NODE, DurableMark(10, 9))}


def test_a_restarted_bridge_starts_from_the_oldest_batch_that_the_node_keeps() -> None:
    marks = DurableMarks()
    marks.acknowledged(NODE, stamp(500, oldest=500))
    assert marks.take_news() == [(NODE, DurableMark(1, 500))]


def test_memory_is_bounded_in_the_number_of_nodes() -> None:
    marks = DurableMarks(max_nodes=100)
    for number in range(1000):
        marks.acknowledged(("plant", f"edge-{number}"), stamp(1))
    assert len(marks._nodes) == 100
    assert len(marks.take_news()) == 1000


def test_a_node_that_makes_up_epochs_forgets_only_its_own() -> None:
    marks = DurableMarks()
    marks.acknowledged(("plant", "honest"), stamp(1))
    for epoch in range(1, 1000):
        marks.acknowledged(NODE, stamp(2, epoch=epoch))
    assert sum(len(epochs) for epochs in marks._nodes.values()) <= MAX_EPOCHS + 1
    marks.take_news()
    marks.acknowledged(("plant", "honest"), stamp(2))
    assert marks.take_news() == [(("plant", "honest"), DurableMark(1, 2))]


def test_the_lanes_of_a_node_do_not_wait_for_each_other_while_old_spools_come_in_late() -> None:
    marks = DurableMarks()
    lanes = range(100, 104)
    for batch_no in range(1, 50):
        for epoch in lanes:
            # One of them lacks its first batch.
            if (epoch, batch_no) != (102, 1):
                marks.acknowledged(NODE, stamp(batch_no, epoch=epoch))
        marks.acknowledged(NODE, stamp(batch_no, epoch=10 + batch_no % 12))
    told = {mark.epoch: mark.through for _, mark in marks.take_news()}
    assert [told.get(epoch) for epoch in lanes] == [49, 49, None, 49]
    marks.acknowledged(NODE, stamp(1, epoch=102))
    assert marks.take_news() == [(NODE, DurableMark(102, 49))]


def test_what_a_hostile_node_has_remembered_is_bounded() -> None:
    marks = DurableMarks()
    for epoch in range(1, 3 * MAX_EPOCHS):
        for batch_no in range(2, 4 * MAX_INTERVALS, 2):
            marks.acknowledged(NODE, stamp(batch_no, epoch=epoch))
    (epochs,) = marks._nodes.values()
    assert sum(len(durable._beyond) for durable in epochs.values()) <= MAX_EPOCHS * MAX_INTERVALS
    assert marks.take_news() == []
