from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.uplink.window import Patience, SendWindow

steps = st.lists(st.one_of(st.just(("send", 0)), st.just(("rewind", 0)), st.tuples(st.just("ack"), st.integers(0, 40))))


@given(st.integers(1, 16), steps)
def test_the_window_is_bounded_and_sends_in_order_without_holes(limit: int, steps: list[tuple[str, int]]) -> None:
    window = SendWindow(limit)
    last_sent = 0
    for step, amount in steps:
        match step:
            case "send" if window.room > 0:
                assert window.next_no <= last_sent + 1, "a batch was left out"
                last_sent = max(last_sent, window.next_no)
                window.sent(window.next_no)
            case "ack":
                # Durable is only what was sent once.
                window.advance(min(window.base + amount, last_sent + 1))
            case "rewind":
                window.rewind()
                assert window.unacknowledged == 0
        assert 0 <= window.unacknowledged <= limit
        assert window.base <= window.next_no


def test_advance_says_whether_it_is_news() -> None:
    window = SendWindow(4)
    for batch_no in (1, 2, 3):
        window.sent(batch_no)
    assert window.advance(3)
    assert not window.advance(3)
    assert not window.advance(2)
    assert (window.base, window.next_no, window.room) == (3, 4, 3)


def test_evicted_batches_are_stepped_over() -> None:
    window = SendWindow(4)
    window.sent(1)
    window.advance(50)
    assert (window.base, window.next_no) == (50, 50)


def test_patience_doubles_up_to_its_longest_and_is_reset_by_progress() -> None:
    patience = Patience(5, 60)
    patience.reset(0)
    now_s, waits = 0.0, []
    for _ in range(6):
        waits.append(patience.left_s(now_s))
        now_s += waits[-1]
        assert not patience.exhausted(now_s - 0.001)
        assert patience.exhausted(now_s)
    assert waits == [5, 10, 20, 40, 60, 60]
    patience.reset(now_s)
    assert patience.left_s(now_s) == 5
