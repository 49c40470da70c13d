"""What comes in is bounded, and what it says is taken apart."""

from __future__ import annotations

import pytest

from contract.commands import COMMAND_ID, RELOAD
from contract.datatypes import DataType
from contract.delivery import DurableMark
from contract.errors import ContractError
from contract.sparkplug import REBIRTH, Metric, Payload, encode
from edge.batch import NODE
from edge.uplink.commands import read_command
from edge.uplink.inbox import BYTES_PER_S, MESSAGES_PER_S, Inbox, Incoming
from edge.uplink.seldom import Seldom

NCMD, DCMD = "spBv1.0/G/NCMD/n", "spBv1.0/G/DCMD/n/pump"


@pytest.mark.parametrize("size_bytes", [0, 100, 60_000])
def test_a_flood_costs_neither_memory_nor_work_without_bound(size_bytes: int) -> None:
    inbox = Inbox(lambda: None)
    for _ in range(20_000):
        inbox.offer(Incoming(NCMD, bytes(size_bytes), retained=False))
    taken = inbox.take()
    assert len(taken) + inbox.dropped == 20_000
    # A burst of two seconds' worth, what was allowed while the loop ran, and one that exceeds it.
    assert len(taken) <= MESSAGES_PER_S * 4
    assert sum(len(message.payload) for message in taken) <= BYTES_PER_S * 4 + size_bytes


def test_the_first_message_after_each_taking_is_told() -> None:
    told = []
    inbox = Inbox(lambda: told.append(1))
    for _ in range(2):
        for _ in range(3):
            inbox.offer(Incoming(NCMD, b"", retained=False))
        inbox.take()
    assert len(told) == 2


def boolean(name: str) -> Metric:
    return Metric(name, DataType.BOOLEAN, value=True, timestamp_ms=1)


def test_a_command_is_told_apart() -> None:
    mark = DurableMark(5, 7)
    command = read_command(NCMD, encode(mark.to_payload(1)))
    assert (command.device, command.mark, command.rebirth, command.rest) == (NODE, mark, False, None)
    command = read_command(NCMD, encode(Payload(1, (boolean(REBIRTH), Metric(COMMAND_ID, DataType.STRING, "x", 1)))))
    assert (command.rebirth, command.rest) == (True, None)
    command = read_command(NCMD, encode(Payload(1, (boolean(REBIRTH), boolean(RELOAD)))))
    assert command.rebirth
    assert command.rest == Payload(1, (boolean(RELOAD),))


def test_a_device_is_commanded_by_its_name_and_gives_no_marks() -> None:
    payload = Payload(1, (*DurableMark(5, 7).to_payload(1).metrics, boolean(REBIRTH)))
    command = read_command(DCMD, encode(payload))
    assert (command.device, command.mark, command.rebirth, command.rest) == ("pump", None, False, payload)


def test_metrics_that_cannot_be_read_are_for_the_agent_to_refuse() -> None:
    command = read_command(NCMD, encode(Payload(1, (Metric("", DataType.DOUBLE, 1.0, 1),))))
    assert command.rest is not None
    assert command.rest.rejected


HALF_A_MARK = encode(Payload(1, DurableMark(5, 7).to_payload(1).metrics[:1]))


@pytest.mark.parametrize("payload", [b"\x0a\xff", HALF_A_MARK])
def test_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(ContractError):
        read_command(NCMD, payload)


def test_what_is_seldom_told_counts_what_it_kept_to_itself() -> None:
    seldom = Seldom(60)
    assert [seldom.speaks(now_s) for now_s in (0, 1, 59, 60, 61)] == [True, False, False, True, False]
    assert seldom.held_back == 2
