"""The budget of a line: the arithmetic, what is refused for it, and what `check` prints."""

from __future__ import annotations

from typing import Any

import pytest

from contract.config import ConfigError, parse_config
from edge.config import AgentConfig
from edge.sources.modbus import ModbusConfig
from edge.sources.modbus.budget import Ask, LineTiming, occupancy
from edge.sources.modbus.framing import read_request

SERIAL = {"transport": "serial", "device": "/dev/ttyUSB0", "baudrate": 9600, "parity": "even"}


def config(of_units: Any, **options: Any) -> ModbusConfig:
    document = {"type": "modbus", "name": "plant", "interval_s": 1, "units": of_units} | options
    return parse_config(document, ModbusConfig, "edge.yaml")


def test_a_full_request_on_9600_baud() -> None:
    timing = LineTiming(baudrate=9600, bits_per_byte=11, response_s=0.03)
    taken = occupancy([Ask(read_request(1, "holding", 0, 100), pause_s=0.02)] * 12, timing)
    # 8 bytes there and 205 back, each 11 bits; 3.5 characters before each of them, the first within the pause.
    assert taken.size_bytes == 12 * 213
    assert taken.transfer_s == pytest.approx(12 * 213 * 11 / 9600)
    assert taken.gaps_s == pytest.approx(24 * 3.5 * 11 / 9600)
    assert taken.pauses_s == pytest.approx(12 * (0.02 - 3.5 * 11 / 9600))
    assert taken.total_s == pytest.approx(12 * (213 * 11 / 9600 + 3.5 * 11 / 9600 + 0.02 + 0.03))


def test_bits_take_less_than_registers_and_tcp_only_the_answer() -> None:
    timing = LineTiming(baudrate=19_200, bits_per_byte=10, response_s=0.0)
    assert occupancy([Ask(read_request(1, "coil", 0, 17), 0.0)], timing).size_bytes == 8 + 8
    taken = occupancy([Ask(read_request(1, "input", 0, 125), 0.0)] * 3, LineTiming(response_s=0.002))
    assert taken.total_s == pytest.approx(0.006)


@pytest.mark.parametrize(("baudrate", "gap_s"), [(1200, 0.0321), (19_200, 0.002005), (38_400, 0.00175)])
def test_silences(baudrate: int, gap_s: float) -> None:
    assert LineTiming(baudrate).gap_s == pytest.approx(gap_s, rel=0.01)


def test_a_plan_that_cannot_fit_is_refused_with_the_arithmetic(kit: Any) -> None:
    of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in range(1200)])
    with pytest.raises(ConfigError) as caught:
        config(of_units, max_registers=100, response_s=0.03, pause_s=0.02, **SERIAL)
    assert str(caught.value).partition("interval_s 1 ")[2] == (
        "is too short: 12 requests: 2556 bytes of 11 bits at 9600 baud = 2.93 s + 24 silences of 4.01 ms = 96.2 ms"
        " + pauses = 192 ms + 12 answers after 30 ms = 360 ms: 3.58 s"
    )
    assert config(of_units, max_registers=100, interval_s=4, **SERIAL).occupancy().requests == 12
    with pytest.raises(ConfigError, match=r"timeout_s 3 is too short: 12 requests"):
        config(of_units, max_registers=100, interval_s=4, timeout_s=3, **SERIAL)


def test_a_serial_line_behind_a_gateway_has_a_budget_too(kit: Any) -> None:
    of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in range(1200)])
    line = {"transport": "rtu_over_tcp", "host": "gateway"}
    assert config(of_units, **line).occupancy().total_s < 1
    with pytest.raises(ConfigError, match="at 9600 baud"):
        config(of_units, baudrate=9600, **line)


def test_a_unit_has_limits_of_its_own(kit: Any) -> None:
    of_units = kit.units(u1=[{"name": f"a{a}", "address": 2 * a} for a in range(10)])
    of_units += kit.units(u2=[{"name": f"b{a}", "address": 2 * a} for a in range(10)])
    assert config(of_units, host="h").occupancy().requests == 2
    own = {"max_gap": 0, "pause_s": 0.01}
    taken = config([of_units[0], of_units[1] | own], host="h").occupancy()
    assert (taken.requests, taken.pauses_s) == (11, pytest.approx(0.1))
    walled = of_units[1] | {"forbidden": [{"table": "input", "first": 3, "last": 3}]}
    assert config([of_units[0], walled], host="h").occupancy().requests == 3


def test_check_explains_requests_and_occupancy(kit: Any) -> None:
    of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in range(100)])
    lines = config(of_units, **SERIAL).explain()
    assert lines[0] == "serial /dev/ttyUSB0: 100 points of 1 unit"
    assert lines[1].startswith("1 request: 213 bytes of 11 bits at 9600 baud = 244 ms + 2 silences of 4.01 ms")
    assert lines[1].endswith(": 272 ms, 27% of interval_s 1")
    assert "0.15 s" in lines[2]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({}, "transport tcp needs `host`"),
        ({"host": "h", "device": "/dev/x"}, "transport tcp has no `device`"),
        ({"host": "h", "baudrate": 9600}, "transport tcp has no `baudrate`"),
        ({"transport": "rtu_over_tcp"}, "transport rtu_over_tcp needs `host`"),
        ({"transport": "serial", "baudrate": 9600}, "transport serial needs `device`"),
        ({"transport": "serial", "device": "/dev/x"}, "needs `baudrate`, one of 300, 600, .*9600"),
        ({"transport": "serial", "device": "/dev/x", "baudrate": 9601}, "needs `baudrate`, one of 300, 600, .*9600"),
        ({"transport": "serial", "device": "/dev/x", "baudrate": 9600, "host": "h"}, "transport serial has no `host`"),
        ({"transport": "udp", "host": "h"}, "transport"),
        ({"host": "h", "port": 0}, "port"),
    ],
)
def test_wrong_lines(kit: Any, line: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config(kit.units(u1=kit.points), **line)


def test_a_serial_port_is_of_one_source_alone(kit: Any) -> None:
    def source(name: str, device: str) -> dict[str, Any]:
        line = {"transport": "serial", "device": device, "baudrate": 9600}
        return {"type": "modbus", "name": name, "interval_s": 1, "units": kit.units(u1=kit.points)} | line

    def agent(*devices: str) -> dict[str, Any]:
        sources = [source(f"s{i}", device) for i, device in enumerate(devices)]
        return {"group": "g", "node": "n", "state_dir": "s", "mqtt": {"host": "h"}, "sources": sources}

    assert parse_config(agent("/dev/ttyUSB0", "/dev/ttyUSB1"), AgentConfig, "edge.yaml").sources[1].name == "s1"
    with pytest.raises(ConfigError, match="/dev/ttyUSB0 is of one source alone, found in s0 and s1: join them in one"):
        parse_config(agent("/dev/ttyUSB0", "/dev/ttyUSB0"), AgentConfig, "edge.yaml")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda kit: {"units": kit.units(u1=kit.points, u2=kit.points)}, "point name p0 stands here twice"),
        (lambda kit: {"units": kit.units(u1=kit.points) * 2}, "unit_id 1 stands here twice"),
        (lambda _: {"units": []}, "units"),
        (
            lambda kit: {"units": kit.units(u0=kit.points), "transport": "rtu_over_tcp"},
            "unit_id 0 is everybody's on an RTU line",
        ),
        (lambda kit: {"units": [kit.units(u1=kit.points)[0] | {"prefix": "a/"}]}, "`profile` says which"),
        (
            lambda kit: {
                "max_registers": 1,
                "units": kit.units(u1=[{"name": "f", "address": 0, "datatype": "float32"}]),
            },
            "point f takes input 0 to 1",
        ),
        (
            lambda kit: {
                "units": [
                    kit.units(u1=kit.points)[0] | {"forbidden": [{"table": "input", "first": 2, "last": 9}]},
                ]
            },
            "point p2 takes input 2",
        ),
    ],
)
def test_wrong_units(kit: Any, change: Any, complaint: str) -> None:
    document = {"type": "modbus", "name": "plant", "interval_s": 1, "host": "h"} | change(kit)
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document, ModbusConfig, "edge.yaml")
