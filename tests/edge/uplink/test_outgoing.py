"""What is sent of a batch, and when the broker's bound is taken for known."""

from __future__ import annotations

from contract.delivery import GAP, BatchId
from contract.sparkplug import decode
from edge.lane import Lane
from edge.spool import StoredBatch
from edge.uplink.outgoing import Outgoing

LARGE = StoredBatch(7, "plant", bytes(5000), 100, 200, 1000)


def is_replaced(outgoing: Outgoing) -> bool:
    payload = outgoing.payload_of(Lane.LIVE, LARGE, 1000)
    return payload != LARGE.payload and decode(payload).metrics[0].name == GAP


def test_what_connections_break_on_again_and_again_is_too_large_from_then_on() -> None:
    outgoing = Outgoing(60)
    replaced = []
    for _ in range(6):
        outgoing.connected(1 << 20)
        replaced.append(is_replaced(outgoing))
        outgoing.unanswered(BatchId(1, 7), 5000)
        outgoing.unanswered(BatchId(1, 8), 10)
    assert replaced == [False] * 5 + [True]
    outgoing.connected(1 << 20)
    assert is_replaced(outgoing)


def test_a_line_that_breaks_often_costs_no_batch_that_was_ever_answered() -> None:
    outgoing = Outgoing(60)
    for turn in range(20):
        outgoing.connected(1 << 20)
        assert not is_replaced(outgoing)
        if turn % 4 == 3:
            outgoing.answered(BatchId(1, 7))
        outgoing.unanswered(BatchId(1, 7), 5000)


def test_a_refusal_holds_for_its_connection() -> None:
    outgoing = Outgoing(60)
    outgoing.connected(1 << 20)
    outgoing.refused_as_too_large(5000)
    assert is_replaced(outgoing)
    outgoing.connected(1 << 20)
    assert not is_replaced(outgoing)
