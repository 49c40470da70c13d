"""Plant and bus as lines: transports, limits, faults and counts, over the wire."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.framer import FramerRTU

from contract.config import ConfigError, parse_config
from simulators.ledger import Refused, Written
from simulators.plant.points import Kind, Table
from simulators.plant.stamps import describe, stamp
from simulators.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALWAYS = {"duration_s": 600}
POINTS = [
    {"table": "input", "count": 100, "datatype": "uint64"},
    {"table": "holding", "address": 100, "count": 4, "datatype": "float32", "word_order": "little", "value": 231.4},
    {"table": "holding", "address": 130, "count": 4, "datatype": "uint16", "writable": True},
    {"table": "coil", "count": 20, "datatype": "bool", "writable": True},
]
READ = bytes([4, 0, 8, 0, 4])


class Client:
    """Frames by hand: what a library would hide is what is looked at."""

    def __init__(self, connection: socket.socket | int, *, rtu: bool) -> None:
        self._connection, self._rtu, self._transaction = connection, rtu, 0

    def send(self, unit_id: int, pdu: bytes) -> bytes:
        """Sends, and returns the head that an answer should have."""
        self._transaction += 1
        if self._rtu:
            body = bytes([unit_id]) + pdu
            self._write(body + FramerRTU.compute_CRC(body).to_bytes(2, "big"))
            return bytes([unit_id])
        head = struct.pack(">HH", self._transaction, 0)
        self._write(head + struct.pack(">HB", len(pdu) + 1, unit_id) + pdu)
        return head

    def receive(self, wait_s: float = 0.4, most: int = 4096) -> bytes:
        """Whatever comes until nothing has come for a while; empty when the other side has closed."""
        data = b""
        deadline = time.monotonic() + wait_s
        while len(data) < most and time.monotonic() < deadline:
            try:
                piece = self._read()
            except BlockingIOError:
                time.sleep(0.002)
                continue
            except ConnectionError:
                return data
            if not piece:
                return data
            data += piece
        return data

    def ask(self, unit_id: int, pdu: bytes, wait_s: float = 5.0) -> bytes:
        """The PDU of the answer."""
        head = self.send(unit_id, pdu)
        answer = self.receive(wait_s, most=1)
        time.sleep(0.02)
        answer += self.receive(0.02)
        assert answer.startswith(head), answer
        if self._rtu:
            assert FramerRTU.compute_CRC(answer[:-2]).to_bytes(2, "big") == answer[-2:]
            return answer[1:-2]
        assert len(answer) == 6 + int.from_bytes(answer[4:6], "big")
        assert answer[6] == unit_id
        return answer[7:]

    def _write(self, data: bytes) -> None:
        if isinstance(self._connection, int):
            os.write(self._connection, data)
        else:
            self._connection.sendall(data)

    def _read(self) -> bytes:
        if isinstance(self._connection, int):
            return os.read(self._connection, 4096)
        return self._connection.recv(4096)


@contextmanager
def client_of(line: Any, *, rtu: bool = False) -> Iterator[Client]:
    if "device" in line.addresses:
        descriptor = os.open(line.addresses["device"], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            yield Client(descriptor, rtu=True)
        finally:
            os.close(descriptor)
        return
    with socket.create_connection((line.addresses["host"], line.addresses["port"]), timeout=5) as connection:
        connection.settimeout(0)
        yield Client(connection, rtu=rtu)


@pytest.fixture
def bus(start_simulator: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a bus of two units; `faults` act before it is handed over."""

    def start(**keys: Any) -> Any:
        line = start_simulator(**{"type": "bus", "name": "bus", "unit_ids": "1-2", "points": POINTS, "seed": 3} | keys)
        line.wait_for("faults", lambda it: len(it.incidents()) == len(keys.get("faults", ())))
        return line

    return start


def control(line: Any, question: Any) -> Any:
    with socket.create_connection((line.addresses["host"], line.addresses["control_port"]), timeout=5) as connection:
        connection.sendall(json.dumps(question).encode() + b"\n")
        return json.loads(connection.makefile().readline())


# Content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp", "serial"])
def test_every_transport_serves_stamps_that_move(bus: Callable[..., Any], transport: str) -> None:
    line = bus(transport=transport, step_s=0.01)
    with client_of(line, rtu=transport != "tcp") as client:
        values = []
        for unit_id in (1, 2, 1):
            answer = client.ask(unit_id, READ)
            assert answer[:2] == b"\x04\x08"
            values.append(int.from_bytes(answer[2:], "big"))
        assert [describe(value).partition(" step ")[0] for value in values] == [
            "unit 1 input 8",
            "unit 2 input 8",
            "unit 1 input 8",
        ]
        steps = [int(describe(value).rpartition(" ")[2]) for value in values]
        assert steps[0] < steps[2]
        assert values[0] == stamp(Kind.UINT64, 1, Table.INPUT, 8, steps[0])
        assert client.ask(1, bytes([3, 0, 100, 0, 2])) == b"\x03\x04\x66\x66\x43\x67"  # 231.4, low word first
        assert client.ask(1, bytes([4, 3, 0, 0, 1])) == b"\x84\x02"
        assert client.ask(9, READ) == b"\x84\x0b"
        assert client.ask(1, bytes([99])) == b"\xe3\x01"


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.STRING])
def test_stamps_of_different_places_and_steps_differ(kind: Kind) -> None:
    table = Table.COIL if kind is Kind.BOOL else Table.INPUT
    places = [(unit_id, address, step) for unit_id in (1, 7) for address in range(100) for step in (0, 1, 500)]
    found = [stamp(kind, unit_id, table, address, step) for unit_id, address, step in places]
    assert found == [stamp(kind, unit_id, table, address, step) for unit_id, address, step in places]
    if kind is Kind.BOOL:
        assert 200 < sum(map(bool, found)) < 400
    else:
        assert len(set(found)) > 0.98 * len(found)


def test_small_holes_read_as_zero_and_large_ones_do_not(bus: Callable[..., Any]) -> None:
    points = [{"table": "input", "address": a, "count": 2, "datatype": "uint16"} for a in (10, 20, 40)]
    with client_of(bus(points=points, hole=8)) as client:
        assert client.ask(1, bytes([4, 0, 10, 0, 12]))[2 + 4 : 2 + 20] == bytes(16)
        for first, count, legal in ((9, 1, False), (12, 8, True), (21, 2, False), (40, 2, True), (41, 2, False)):
            assert (client.ask(1, bytes([4, 0, first, 0, count]))[0] == 4) is legal


def test_what_is_written_stays_and_is_in_the_ledger(bus: Callable[..., Any]) -> None:
    line = bus()
    with client_of(line) as client:
        assert client.ask(2, bytes([6, 0, 131, 0x12, 0x34])) == bytes([6, 0, 131, 0x12, 0x34])
        assert client.ask(2, bytes([5, 0, 3, 0xFF, 0])) == bytes([5, 0, 3, 0xFF, 0])
        assert client.ask(2, bytes([3, 0, 131, 0, 1])) == b"\x03\x02\x12\x34"
        assert client.ask(2, bytes([1, 0, 3, 0, 1])) == b"\x01\x01\x01"
        assert client.ask(2, bytes([6, 0, 100, 0, 0])) == b"\x86\x02"
        assert client.ask(1, bytes([3, 0, 131, 0, 1])) != b"\x03\x02\x12\x34"
    register, coil, refused = (entry for entry in line.entries() if isinstance(entry, Written))
    assert register.where == {"unit_id": 2, "table": "holding", "address": 131}
    assert (register.words, register.values, register.exception) == ((0x1234,), {"u2/holding/131": 0x1234}, None)
    assert coil.values == {"u2/coil/3": True}
    assert (refused.exception, refused.values) == (2, {})


def test_set_points_of_the_plant_are_in_its_ledger(start_simulator: Callable[..., Any]) -> None:
    line = start_simulator(type="plant", name="plant")
    with client_of(line) as client:
        assert client.ask(3, bytes([6, 0, 12, 2, 208])) == bytes([6, 0, 12, 2, 208])
        assert client.ask(3, bytes([6, 0, 12, 0xFF, 0xFF])) == b"\x86\x03"
    accepted, refused = (entry for entry in line.entries() if isinstance(entry, Written))
    assert accepted.values == {"ph/setpoint": 7.2}
    assert (refused.words, refused.exception) == ((0xFFFF,), 3)


def test_notes_are_what_was_served(bus: Callable[..., Any]) -> None:
    line = bus(notes=True)
    with client_of(line) as client:
        value = int.from_bytes(client.ask(1, READ)[2:], "big")
        client.ask(1, bytes([1, 0, 0, 0, 2]))
    registers, bits = line.served()
    assert registers.values == {"u1/input/8": value}
    assert bits.values.keys() == {"u1/coil/0", "u1/coil/1"}


def test_requests_are_counted_by_unit_and_connection(bus: Callable[..., Any]) -> None:
    line = bus()
    with client_of(line) as client, client_of(line) as other:
        for unit_id in (1, 1, 2, 9):
            client.ask(unit_id, READ)
        other.ask(2, READ)
    counted = control(line, {"counts": "reset"})
    assert counted["by_unit"] == {"1": 2, "2": 2, "9": 1}
    assert sorted(counted["by_connection"].values()) == [1, 4]
    assert [counted[key] for key in ("requests", "refused", "registers", "connections")] == [5, 1, 16, 2]
    assert control(line, {"counts": "keep"})["requests"] == 0


# Serial -----------------------------------------------------------------------------------------------------------


def test_the_link_leads_to_the_pty_and_goes_with_it(bus: Callable[..., Any], tmp_path: Path) -> None:
    link = tmp_path / "tty"
    link.symlink_to("left behind")
    line = bus(transport="serial", link=str(link))
    assert line.addresses["device"] == str(link)
    with client_of(line) as client:
        client.ask(1, READ)
    with client_of(line) as client:
        client.ask(1, READ)
    line.stop()
    assert not link.is_symlink()


def test_a_pty_takes_the_time_of_its_baud_rate(bus: Callable[..., Any]) -> None:
    with client_of(bus(transport="serial", baud=9600)) as client:
        before = time.monotonic()
        client.send(1, bytes([4, 0, 0, 0, 100]))
        answer = client.receive(5, most=205)
        assert len(answer) == 205
        assert time.monotonic() - before >= 213 * 11 / 9600


def test_a_tty_that_is_given_is_served(bus: Callable[..., Any]) -> None:
    ours, theirs = os.openpty()
    try:
        os.set_blocking(ours, False)
        bus(transport="serial", device=os.ttyname(theirs), baud=19200)
        assert Client(ours, rtu=True).ask(2, READ)[:2] == b"\x04\x08"
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"baud": 9600}, "baud is for transport serial"),
        ({"transport": "serial", "device": "/dev/x", "link": "y"}, "leave out device"),
        ({"unit_ids": "1-x"}, "1-10, 17"),
        ({"unit_ids": [256]}, "256"),
        ({"faults": [{"kind": "busy", "unit_id": 3}]}, "allowed are the units 1, 2"),
        ({"points": [POINTS[0], {"table": "input", "address": 399, "count": 1, "datatype": "int16"}]}, "overlap"),
        ({"points": [{"table": "coil", "count": 1, "datatype": "int16"}]}, "bool"),
        ({"points": [{"table": "input", "count": 1, "datatype": "int16", "writable": True}]}, "cannot be written"),
        ({"points": [{"table": "input", "count": 2, "datatype": "int64", "spacing": 3}]}, "spacing"),
        ({"points": [{"table": "input", "address": 65535, "count": 1, "datatype": "int32"}]}, "last address"),
    ],
)
def test_a_bus_that_cannot_be_is_told(keys: dict[str, Any], message: str) -> None:
    simulator = {"type": "bus", "name": "bus", "unit_ids": "1-2", "points": POINTS} | keys
    with pytest.raises(ConfigError, match=message):
        parse_config({"ledger_dir": "x", "simulators": [simulator]}, Scenario, "test")


def test_a_tty_that_is_none_is_told(start_simulator: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keys = {"type": "bus", "name": "bus", "unit_ids": "1", "points": POINTS, "transport": "serial"}
    with pytest.raises(RuntimeError, match="is no serial port"):
        start_simulator(**keys, device=str(tmp_path / "file"))


# Limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("complaint", "answer"), [("illegal_value", b"\x84\x03"), ("illegal_address", b"\x84\x02")])
def test_larger_reads_are_refused(bus: Callable[..., Any], complaint: str, answer: bytes) -> None:
    limits = {"max_registers": 10, "max_bits": 12, "when_too_many": complaint}
    with client_of(bus(limits=limits)) as client:
        assert client.ask(1, bytes([4, 0, 0, 0, 10]))[0] == 4
        assert client.ask(1, bytes([4, 0, 0, 0, 11])) == answer
        assert client.ask(1, bytes([1, 0, 0, 0, 12]))[0] == 1
        assert client.ask(1, bytes([1, 0, 0, 0, 13]))[0] == 0x81


@pytest.mark.parametrize("complaint", ["silence", "garbage", "busy"])
def test_who_asks_too_soon_is_not_served(bus: Callable[..., Any], complaint: str) -> None:
    with client_of(bus(limits={"pause_s": 0.3, "when_too_soon": complaint})) as client:
        assert client.ask(1, READ)[0] == 4
        head = client.send(1, READ)
        hasty = client.receive(0.1)
        assert {"silence": hasty == b"", "garbage": hasty != b"" and not hasty.startswith(head)}.get(
            complaint, hasty[7:] == b"\x84\x06"
        )
        time.sleep(0.4)
        assert client.ask(1, READ)[0] == 4


def test_an_absent_unit_may_be_silent(bus: Callable[..., Any]) -> None:
    with client_of(bus(limits={"absent_unit": "silence"})) as client:
        client.send(9, READ)
        assert client.receive(0.1) == b""
        assert client.ask(1, READ)[0] == 4


def test_a_client_too_many_is_turned_away(bus: Callable[..., Any]) -> None:
    line = bus(limits={"max_clients": 1})
    with client_of(line) as client:
        assert client.ask(1, READ)[0] == 4
        with client_of(line) as other:
            other.send(1, READ)
            assert other.receive(1) == b""
        assert client.ask(1, READ)[0] == 4
    time.sleep(0.1)
    with client_of(line) as client:
        assert client.ask(1, READ)[0] == 4


# Faults -----------------------------------------------------------------------------------------------------------


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
def test_no_answer(bus: Callable[..., Any], kind: str) -> None:
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
    bus: Callable[..., Any], kind: str, wrong: set[int]
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


def test_a_truncated_answer_ends_in_the_middle(bus: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("truncated"))) as client:
        client.send(1, READ)
        assert 0 < len(client.receive(0.2)) < 17


def test_a_short_answer_is_whole(bus: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("short_answer"))) as client:
        assert client.ask(1, READ)[:2] == b"\x04\x06"


def test_a_duplicate_comes_twice(bus: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("duplicate"))) as client:
        client.send(1, READ)
        answer = client.receive(2, most=34)
        assert answer[:17] == answer[17:]
        assert right(answer[:17])


def test_a_dribble_is_whole_at_last(bus: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("dribble", pause_s=0.01))) as client:
        before = time.monotonic()
        client.send(1, READ)
        assert right(client.receive(5, most=17))
        assert time.monotonic() - before >= 0.15


def test_garbage_comes_before(bus: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("garbage"))) as client:
        client.send(1, READ)
        answer = client.receive(0.3)
        assert len(answer) > 17
        assert right(answer[-17:])


def test_a_corrupt_rtu_answer_has_a_wrong_checksum(bus: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("corrupt"), transport="rtu_over_tcp"), rtu=True) as client:
        client.send(1, READ)
        answer = client.receive(2, most=13)
        assert len(answer) == 13
        assert FramerRTU.compute_CRC(answer[:-2]).to_bytes(2, "big") != answer[-2:]


def test_a_late_answer_is_overtaken_and_a_slow_one_is_not(bus: Callable[..., Any]) -> None:
    for kind, order in (("late", [2, 1]), ("slow_reply", [1, 2])):
        with client_of(bus(**faulty(kind, unit_id=1, delay_s=0.2), name=kind)) as client:
            client.send(1, READ)
            client.send(2, READ)
            answers = client.receive(5, most=34)
            assert [answers[6], answers[23]] == order
            assert [answers[1], answers[18]] == order


def test_a_forbidden_address_refuses_what_touches_it(bus: Callable[..., Any]) -> None:
    with client_of(bus(**faulty("forbidden_address", unit_id=1, table="input", address=11))) as client:
        assert client.ask(1, READ) == b"\x84\x02"
        assert client.ask(1, bytes([4, 0, 12, 0, 4]))[0] == 4
        assert client.ask(1, bytes([3, 0, 130, 0, 1]))[0] == 3
        assert client.ask(2, READ)[0] == 4


def test_a_share_of_the_requests_is_drawn_from_the_seed(bus: Callable[..., Any]) -> None:
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


def test_a_fault_of_a_unit_that_is_not_there_is_refused(bus: Callable[..., Any]) -> None:
    line = bus()
    assert "allowed are the units 1, 2" in control(line, {"kind": "silent", "unit_id": 3})["error"]
    assert control(line, {"kind": "late", "unit_id": 2, "share": 0.5})["label"] == "late unit 2 0.5"
