"""What goes wrong on a line, each by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.framer import FramerRTU

from simulators.ledger import Refused
from simulators.plant.stamps import describe

if TYPE_CHECKING:
    from collections.abc import Callable

ALWAYS = {"duration_s": 600}
READ = bytes([4, 0, 8, 0, 4])


def faulty(kind: str, **keys: Any) -> dict[str, Any]:
    return {"faults": [{"kind": kind, **ALWAYS, **keys}], "step_s": 0.05}


def right(answer: bytes) -> bool:
    """Whether it is an answer to the first read of unit 1 over Modbus TCP, with what was asked for."""
    return (
        len(answer) == 17
        and answer[:9] == bytes([0, 1, 0, 0, 0, 11, 1, 4, 8])
        and describe(int.from_bytes(answer[9:], "big")).startswith("unit 1 input 8 ")
    )


@pytest.mark.parametrize("kind", ["silent", "half_open", "comms_error"])
def test_no_answer(bus: Callable[..., Any], kind: str, client_of: Callable[..., Any]) -> None:
    line = bus(**faulty(kind, unit_id=1), notes=True)
    with client_of(line) as client, client_of(line) as other:
        client.send(1, READ)
        assert client.receive(0.15) == b""
        assert other.ask(2, READ)[0] == 4
        (refused,) = (entry for entry in line.entries() if isinstance(entry, Refused))
        assert "u1/input/8" in refused.metrics
        if kind == "silent":
            assert client.ask(2, READ)[0] == 4
        elif kind == "half_open":
            client.send(2, READ)
            assert client.receive(0.15) == b""


@pytest.mark.parametrize(
    ("kind", "wrong"), [("wrong_unit", {6}), ("wrong_transaction", {0, 1}), ("wrong_function", {7})]
)
def test_a_wrong_answer_is_wrong_in_one_thing_and_holds_other_values(
    bus: Callable[..., Any], kind: str, wrong: set[int], client_of: Callable[..., Any]
) -> None:
    line = bus(**faulty(kind), notes=True)
    with client_of(line) as client:
        client.send(1, READ)
        answer = client.receive(2, most=17)
    assert len(answer) == 17
    differing = {place for place in range(9) if answer[place] != [0, 1, 0, 0, 0, 11, 1, 4, 8][place]}
    assert differing
    assert differing <= wrong
    assert not describe(int.from_bytes(answer[9:], "big")).startswith("unit 1 input 8 ")
    assert line.served() == []
    (refused,) = (entry for entry in line.entries() if isinstance(entry, Refused))
    assert "u1/input/8" in refused.metrics


def test_a_truncated_answer_ends_in_the_middle(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("truncated"))) as client:
        client.send(1, READ)
        assert 0 < len(client.receive(0.2)) < 17


def test_a_short_answer_is_whole(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("short_answer"))) as client:
        assert client.ask(1, READ)[:2] == b"\x04\x06"


def test_a_duplicate_comes_twice(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("duplicate"))) as client:
        client.send(1, READ)
        answer = client.receive(2, most=34)
        assert answer[:17] == answer[17:]
        assert right(answer[:17])


def test_a_dribble_is_whole_at_last(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("dribble", pause_s=0.01))) as client:
        before = time.monotonic()
        client.send(1, READ)
        assert right(client.receive(5, most=17))
        assert time.monotonic() - before >= 0.15


def test_garbage_comes_before(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("garbage"))) as client:
        client.send(1, READ)
        answer = client.receive(0.3)
        assert len(answer) > 17
        assert right(answer[-17:])


def test_a_corrupt_rtu_answer_has_a_wrong_checksum(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("corrupt"), transport="rtu_over_tcp"), rtu=True) as client:
        client.send(1, READ)
        answer = client.receive(2, most=13)
        assert len(answer) == 13
        assert FramerRTU.compute_CRC(answer[:-2]).to_bytes(2, "big") != answer[-2:]


def test_a_late_answer_is_overtaken_and_a_slow_one_is_not(
    bus: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    for kind, order in (("late", [2, 1]), ("slow_reply", [1, 2])):
        with client_of(bus(**faulty(kind, unit_id=1, delay_s=0.2), name=kind)) as client:
            client.send(1, READ)
            client.send(2, READ)
            answers = client.receive(5, most=34)
            assert [answers[6], answers[23]] == order
            assert [answers[1], answers[18]] == order


def test_a_forbidden_address_refuses_what_touches_it(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("forbidden_address", unit_id=1, table="input", address=11))) as client:
        assert client.ask(1, READ) == b"\x84\x02"
        assert client.ask(1, bytes([4, 0, 12, 0, 4]))[0] == 4
        assert client.ask(1, bytes([3, 0, 130, 0, 1]))[0] == 3
        assert client.ask(2, READ)[0] == 4


def test_a_share_of_the_requests_is_drawn_from_the_seed(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    def busy(name: str, seed: int) -> list[bool]:
        with client_of(bus(**faulty("busy", share=0.5), seed=seed, name=name)) as client:
            found = []
            for _ in range(40):
                client.send(1, READ)
                found.append(len(client.receive(5, most=9)) == 9)
                client.receive(0.005)
            return found

    first = busy("first", 1)
    assert 8 < sum(first) < 32
    assert busy("again", 1) == first
    assert busy("other", 2) != first


def test_a_fault_of_a_unit_that_is_not_there_is_refused(bus: Callable[..., Any], control: Callable[..., Any]) -> None:
    line = bus()
    assert "allowed are the units 1, 2" in control(line, {"kind": "silent", "unit_id": 3})["error"]
    assert control(line, {"kind": "late", "unit_id": 2, "share": 0.5})["label"] == "late unit 2 0.5"
