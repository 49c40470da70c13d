"""How far a lane has come, and whose word on it is believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.spool import Extent
from edge.uplink.progress import LaneProgress
from edge.uplink.window import Patience, SendWindow

EPOCH = 1000


def extent(oldest: int, next_no: int, epoch: int = EPOCH) -> Extent:
    return Extent(epoch, oldest, next_no, 0, None)


def lane(oldest: int = 1, next_no: int = 101, limit: int = 10) -> LaneProgress:
    progress = LaneProgress(SendWindow(limit), Patience(5, 60))
    progress.follow(extent(oldest, next_no), 0)
    return progress


def send(progress: LaneProgress, count: int, now_s: float = 0) -> None:
    for _ in range(count):
        assert progress.room > 0
        progress.sent(progress.window.next_no, now_s)


STEPS = st.lists(
    st.one_of(
        st.just(("send", 0)),
        st.just(("retreat", 0)),
        st.just(("begin", 0)),
        st.tuples(st.just("mark"), st.integers(-5, 200)),
        st.tuples(st.just("wait"), st.integers(0, 100)),
    ),
    max_size=80,
)


@given(STEPS)
def test_no_mark_however_forged_covers_what_was_never_sent(steps: list[tuple[str, int]]) -> None:
    progress, now_s, sent = lane(), 0.0, set[int]()
    for step, amount in steps:
        match step:
            case "send" if progress.room > 0:
                sent.add(progress.window.next_no)
                progress.sent(progress.window.next_no, now_s)
            case "mark":
                progress.believe(amount)
            case "retreat":
                progress.retreat()
            case "begin":
                progress.begin(now_s)
            case "wait":
                now_s += amount
                progress.loses_patience(now_s)
        assert set(range(1, progress.durable_through + 1)) <= sent
        progress.follow(extent(max(1, progress.durable_through + 1), 101), now_s)
        assert progress.window.base == progress.durable_through + 1
        assert 0 <= progress.window.unacknowledged <= 10


def test_a_mark_that_an_earlier_run_may_have_earned_is_no_lie_but_counts_only_for_what_was_sent() -> None:
    progress = lane(oldest=51)
    send(progress, 3)
    assert progress.believe(60)
    assert progress.durable_through == 53
    assert not progress.believe(61)
    assert progress.durable_through == 53


def test_a_mark_beyond_what_the_spool_has_is_a_lie() -> None:
    progress = lane(oldest=1, next_no=4)
    send(progress, 3)
    assert not progress.believe(4)


def test_after_a_disappointment_one_batch_is_tried_until_it_is_durable() -> None:
    progress = lane()
    send(progress, 10)
    assert not progress.loses_patience(4.9)
    assert progress.loses_patience(5)
    send(progress, 1, 6)
    assert progress.room == 0
    assert not progress.loses_patience(15.9)
    assert progress.loses_patience(16)
    send(progress, 1, 16)
    assert progress.believe(1)
    assert progress.follow(extent(2, 101), 17)
    assert progress.room == 10


def test_a_new_connection_begins_with_a_window_full() -> None:
    progress = lane()
    send(progress, 10)
    progress.retreat()
    progress.begin(1)
    assert progress.room == 10


def test_a_new_epoch_begins_with_what_is_there() -> None:
    progress = lane()
    send(progress, 10)
    assert not progress.follow(extent(5, 9, EPOCH + 4), 1)
    assert (progress.window.next_no, progress.durable_through, progress.room) == (5, 4, 4)
