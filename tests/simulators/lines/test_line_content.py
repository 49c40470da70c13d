"""What lines serve, through every transport; writes, counts, and configurations that cannot be."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import ConfigError, parse_config
from simulators.ledger import Written
from simulators.plant.points import Kind, Table
from simulators.plant.stamps import describe, stamp
from simulators.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POINTS = {"table": "input", "count": 100, "datatype": "uint64"}
READ = bytes([4, 0, 8, 0, 4])


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp", "serial"])
def test_every_transport_serves_stamps_that_move(
    bus: Callable[..., Any], transport: str, client_of: Callable[..., Any]
) -> None:
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


def test_small_holes_read_as_zero_and_large_ones_do_not(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    points = [{"table": "input", "address": a, "count": 2, "datatype": "uint16"} for a in (10, 20, 40)]
    with client_of(bus(points=points, hole=8)) as client:
        assert client.ask(1, bytes([4, 0, 10, 0, 12]))[2 + 4 : 2 + 20] == bytes(16)
        for first, count, legal in ((9, 1, False), (12, 8, True), (21, 2, False), (40, 2, True), (41, 2, False)):
            assert (client.ask(1, bytes([4, 0, first, 0, count]))[0] == 4) is legal


def test_what_is_written_stays_and_is_in_the_ledger(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
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


def test_set_points_of_the_plant_are_in_its_ledger(
    start_simulator: Callable[..., Any], client_of: Callable[..., Any]
) -> None:
    line = start_simulator(type="plant", name="plant")
    with client_of(line) as client:
        assert client.ask(3, bytes([6, 0, 12, 2, 208])) == bytes([6, 0, 12, 2, 208])
        assert client.ask(3, bytes([6, 0, 12, 0xFF, 0xFF])) == b"\x86\x03"
    accepted, refused = (entry for entry in line.entries() if isinstance(entry, Written))
    assert accepted.values == {"ph/setpoint": 7.2}
    assert (refused.words, refused.exception) == ((0xFFFF,), 3)


def test_notes_are_what_was_served(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    line = bus(notes=True)
    with client_of(line) as client:
        value = int.from_bytes(client.ask(1, READ)[2:], "big")
        client.ask(1, bytes([1, 0, 0, 0, 2]))
    registers, bits = line.served()
    assert registers.values == {"u1/input/8": value}
    assert bits.values.keys() == {"u1/coil/0", "u1/coil/1"}


def test_requests_are_counted_by_unit_and_connection(
    bus: Callable[..., Any], client_of: Callable[..., Any], control: Callable[..., Any]
) -> None:
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


def test_the_link_leads_to_the_pty_and_goes_with_it(
    bus: Callable[..., Any], tmp_path: Path, client_of: Callable[..., Any]
) -> None:
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


def test_a_pty_takes_the_time_of_its_baud_rate(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(transport="serial", baud=9600)) as client:
        before = time.monotonic()
        client.send(1, bytes([4, 0, 0, 0, 100]))
        answer = client.receive(5, most=205)
        assert len(answer) == 205
        assert time.monotonic() - before >= 213 * 11 / 9600


def test_a_tty_that_is_given_is_served(bus: Callable[..., Any], client_of_tty: Callable[..., Any]) -> None:
    ours, theirs = os.openpty()
    try:
        os.set_blocking(ours, False)
        bus(transport="serial", device=os.ttyname(theirs), baud=19200)
        assert client_of_tty(ours).ask(2, READ)[:2] == b"\x04\x08"
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
        ({"points": [POINTS, {"table": "input", "address": 399, "count": 1, "datatype": "int16"}]}, "overlap"),
        ({"points": [{"table": "coil", "count": 1, "datatype": "int16"}]}, "bool"),
        ({"points": [{"table": "input", "count": 1, "datatype": "int16", "writable": True}]}, "cannot be written"),
        ({"points": [{"table": "input", "count": 2, "datatype": "int64", "spacing": 3}]}, "spacing"),
        ({"points": [{"table": "input", "address": 65535, "count": 1, "datatype": "int32"}]}, "last address"),
    ],
)
def test_a_bus_that_cannot_be_is_told(keys: dict[str, Any], message: str) -> None:
    simulator = {"type": "bus", "name": "bus", "unit_ids": "1-2", "points": [POINTS]} | keys
    with pytest.raises(ConfigError, match=message):
        parse_config({"ledger_dir": "x", "simulators": [simulator]}, Scenario, "test")


def test_a_tty_that_is_none_is_told(start_simulator: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keys = {"type": "bus", "name": "bus", "unit_ids": "1", "points": [POINTS], "transport": "serial"}
    with pytest.raises(RuntimeError, match="is no serial port"):
        start_simulator(**keys, device=str(tmp_path / "file"))
