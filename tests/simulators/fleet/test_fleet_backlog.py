"""What a node keeps, against a bridge that loses, repeats and answers late: it forgets what is durable, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from contract.config import parse_config
from contract.delivery import DurableMark
from simulators.fleet.backlog import Backlog
from simulators.fleet.config import FleetConfig
from simulators.fleet.lane import Batch, Lane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.delivery import BatchStamp

EPOCH = 1000


def backlog_of(**keys: Any) -> Backlog:
    return Backlog(parse_config(keys, FleetConfig, "test"), EPOCH)


def batch(number: int) -> Batch:
    return Batch(b"%d" % number, number, number)


def test_what_is_sent_is_kept_until_it_is_durable() -> None:
    lane = Lane(EPOCH, window=2, resend_after_s=5)
    for number in range(1, 5):
        lane.add(batch(number))
    sent = [lane.send(0)[0] for _ in range(lane.sendable)]
    assert [(stamp.batch.batch_no, stamp.oldest) for stamp in sent] == [(1, 1), (2, 1)]
    assert lane.take(DurableMark(EPOCH, 1), 0) == 1
    assert [lane.send(0)[0].batch.batch_no for _ in range(lane.sendable)] == [3]
    assert len(lane) == 3


def test_a_mark_of_what_was_never_sent_is_not_believed() -> None:
    lane = Lane(EPOCH, window=2, resend_after_s=5)
    for number in range(1, 5):
        lane.add(batch(number))
    lane.send(0)
    assert lane.take(DurableMark(EPOCH, 4), 0) == 1
    assert len(lane) == 3


def test_after_a_loss_of_patience_one_is_sent_and_then_all() -> None:
    lane = Lane(EPOCH, window=10, resend_after_s=5)
    for number in range(1, 5):
        lane.add(batch(number))
    lane.begin(0)
    while lane.sendable:
        lane.send(0)
    assert not lane.loses_patience(4.9)
    assert lane.loses_patience(5)
    assert lane.sendable == 1
    stamp, _, is_repeated = lane.send(5)
    assert (stamp.batch.batch_no, is_repeated, lane.sendable) == (1, True, 0)
    assert not lane.loses_patience(14.9)
    assert lane.loses_patience(15), "the next wait is twice as long"
    lane.send(15)
    lane.take(DurableMark(EPOCH, 1), 16)
    assert lane.sendable == 3


def test_the_oldest_give_way_and_are_declared() -> None:
    backlog = backlog_of(max_kept=40)
    evicted = sum(backlog.keep(batch(number), for_replay=number > 10) for number in range(1, 52))
    gap = backlog.take_gap()
    assert gap is not None
    assert (gap.from_ms, gap.to_ms) == (11, 10 + evicted), "what is for replay gives way before what is live"
    assert backlog.take_gap() is None
    backlog.begin(0)
    found = [turn[1].from_ms for _ in range(100) if (turn := backlog.next(0)) is not None]
    assert found == [*range(1, 11), *range(11 + evicted, 52)]


def test_a_gap_that_gives_way_is_declared_again() -> None:
    backlog = backlog_of(max_kept=2)
    assert backlog.keep(Batch(b"gap", 1, 9), for_replay=False) == 0
    assert backlog.keep(batch(10), for_replay=False) == 0
    assert backlog.keep(batch(11), for_replay=False) == 1
    gap = backlog.take_gap()
    assert gap is not None
    assert (gap.from_ms, gap.to_ms) == (1, 9)


def test_replay_keeps_to_its_rate_and_live_goes_first() -> None:
    backlog = backlog_of(replay_per_s=2)
    for number in range(1, 9):
        backlog.keep(batch(number), for_replay=number < 8)
    backlog.begin(0)
    sent = [turn[1].from_ms for _ in range(10) if (turn := backlog.next(0)) is not None]
    assert sent == [8, 1, 2]
    assert backlog.pause_s(0, 5) == 0.5
    later = [turn[1].from_ms for _ in range(10) if (turn := backlog.next(0.5)) is not None]
    assert later == [3]


class Bridge:
    """Takes some of what is sent, and answers for all up to the first that it lacks."""

    def __init__(self) -> None:
        self.stored: set[int] = set()
        self._arrived: dict[int, set[int]] = {EPOCH: set(), EPOCH + 1: set()}
        self._through = dict.fromkeys(self._arrived, 0)

    @property
    def marks(self) -> list[DurableMark]:
        return [DurableMark(epoch, through) for epoch, through in self._through.items()]

    def take(self, stamp: BatchStamp, sent: Batch) -> None:
        epoch = stamp.batch.epoch
        self.stored.add(sent.from_ms)
        self._arrived[epoch].add(stamp.batch.batch_no)
        self._through[epoch] = max(self._through[epoch], stamp.oldest - 1)
        while self._through[epoch] + 1 in self._arrived[epoch]:
            self._through[epoch] += 1


@given(st.lists(st.sampled_from(["keep", "replay", "send", "lose", "mark", "begin", "wait"])))
def test_nothing_is_forgotten_that_is_neither_durable_nor_declared(actions: list[str]) -> None:
    backlog, bridge = backlog_of(max_kept=8, window=4, replay_per_s=1e6), Bridge()
    made, now_s = 0, 0.0
    for action in actions:
        now_s += 1 if action == "wait" else 0.001
        if action in {"keep", "replay"}:
            made += 1
            backlog.keep(batch(made), for_replay=action == "replay")
        elif action in {"send", "lose"}:
            turn = backlog.next(now_s)
            if turn is not None and action == "send":
                bridge.take(*turn[:2])
        elif action == "mark":
            for mark in bridge.marks:
                backlog.take_mark(mark, now_s)
        else:
            (backlog.begin if action == "begin" else backlog.loses_patience)(now_s)
    gap = backlog.take_gap()
    declared = set(range(gap.from_ms, gap.to_ms + 1)) if gap else set()
    assert set(range(1, made + 1)) <= bridge.stored | declared | set(kept(backlog, now_s))


def kept(backlog: Backlog, now_s: float) -> Iterator[int]:
    backlog.begin(now_s)
    while (turn := backlog.next(now_s)) is not None:
        stamp, sent, _ = turn
        yield sent.from_ms
        backlog.take_mark(DurableMark(stamp.batch.epoch, stamp.batch.batch_no), now_s)
