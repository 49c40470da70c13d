"""Device profiles: each parses, plans within its limits and decodes registers that were filled in by hand."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType as SimType
from pymodbus.simulator import SimData, SimDevice

from contract.config import ConfigError, parse_config
from contract.sparkplug import Quality
from edge.__main__ import main
from edge.sources import ModbusConfig
from edge.sources.modbus.points import BIT_TABLES
from edge.sources.modbus.profile import Profile, load_profile, profile_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.reading import Reading
    from edge.sources.modbus.blocks import Block

Registers = dict[tuple[str, int], str]

# What a device answers, in hexadecimal from an address on (bits as bytes, from their block's first address on), and
# what that means: computed by hand from the vendors' tables, and where a vendor prints an example, that one.
IMAGES: Mapping[str, tuple[Registers, dict[str, Any]]] = {
    "abb-b23": (
        {
            ("holding", 0x5000): "0000 0000 0001 E240",
            ("holding", 0x5B00): "0000 08FD",
            ("holding", 0x5B0C): "FFFF FFFF",
            ("holding", 0x5B14): "FFFF FF9C",
            ("holding", 0x5B2C): "1388",
            ("holding", 0x5B3A): "03CF 7FFF",
        },
        {
            "energy/active/import": 1234.56,
            "voltage/l1": 230.1,
            "current/l1": None,
            "power/active/total": -1.0,
            "frequency": 50.0,
            "power_factor/total": 0.975,
            "power_factor/l1": None,
        },
    ),
    "carlo-gavazzi-em340": (
        {
            ("input", 0x00): "08FD 0000",
            ("input", 0x0C): "30D4 0000",
            ("input", 0x28): "C568 FFFF",
            ("input", 0x31): "FC18 0000 01F4",
            ("input", 0x34): "D687 0012",
        },
        {
            "voltage/l1": 230.1,
            "current/l1": 12.5,
            "power/active/total": -1500.0,
            "power_factor/total": -1.0,
            "frequency": 50.0,
            "energy/active/import": 123_456.7,
        },
    ),
    "danfoss-fc302": (
        {
            ("holding", 14_999): "0000 2710",
            ("holding", 16_099): "0000 0096",
            ("holding", 16_129): "01F4",
            ("holding", 16_139): "0000 00FA",
            ("holding", 16_169): "FFFF FA24",
        },
        {
            "hours/operating": 10_000,
            "power/active/total": 1500.0,
            "frequency/output": 50.0,
            "current/motor": 2.5,
            "speed/motor": -1500,
        },
    ),
    "eastron-sdm630": (  # 4366 3334 is the answer in the manual's example, 230.2 V
        {
            ("input", 0): "4366 3334",
            ("input", 52): "C47A 0000",
            ("input", 70): "4248 0000",
            ("input", 72): "4640 E600",
            ("input", 342): "7FC0 0000",
        },
        {
            "voltage/l1": 230.2,
            "power/active/total": -1000.0,
            "frequency": 50.0,
            "energy/active/import": 12_345.5,
            "energy/active/total": None,
        },
    ),
    "huawei-sun2000": (
        {
            ("holding", 32_017): "FFF6",
            ("holding", 32_064): "0000 0FA0",
            ("holding", 32_069): "08FD FFFF",
            ("holding", 32_072): "0000 1388",
            ("holding", 32_085): "1388 26DE 7FFF 03E8 0200",
            ("holding", 32_106): "0001 E240",
        },
        {
            "current/dc/string1": -0.1,
            "power/dc": 4000,
            "voltage/l1": 230.1,
            "voltage/l2": None,
            "current/l1": 5.0,
            "frequency": 50.0,
            "efficiency": 99.5,
            "temperature/internal": None,
            "status/state": "on grid",
            "energy/active/export": 1234.56,
        },
    ),
    "janitza-umg96rm": (
        {
            ("holding", 19_000): "4366 3334",
            ("holding", 19_026): "C47A 0000",
            ("holding", 19_050): "4248 0000",
            ("holding", 19_068): "4640 E600",
        },
        {
            "voltage/l1": 230.2,
            "power/active/total": -1000.0,
            "frequency": 50.0,
            "energy/active/import": 12.3455,
        },
    ),
    "moxa-iologik-e1214": (
        {
            ("discrete", 0): "21",
            ("coil", 0): "02",
            ("input", 16): "0001 E240",
            ("input", 26): "FFFF FFFF",
        },
        {
            "input/0": True,
            "input/1": False,
            "input/5": True,
            "relay/0": False,
            "relay/1": True,
            "counter/0": 123_456,
            "counter/5": 4_294_967_295,
        },
    ),
    "schneider-atv320": (
        {("holding", 3201): "0237 FE0C 01F4 0019", ("holding", 3207): "0FA0 0000 002D"},
        {
            "status/word": 567,
            "status/operation_enabled": True,
            "status/fault": False,
            "frequency/output": -50.0,
            "frequency/reference": 50.0,
            "current/motor": 2.5,
            "voltage/mains": 400.0,
            "thermal/drive": 45,
        },
    ),
    "schneider-iem3155": (
        {
            ("holding", 3027): "4366 3334",
            ("holding", 3059): "3FC0 0000",
            ("holding", 3109): "FFC0 0000",
            ("holding", 3203): "0000 0000 075B CD15",
            ("holding", 3207): "8000 0000 0000 0000",
        },
        {
            "voltage/l1": 230.2,
            "power/active/total": 1500.0,
            "frequency": None,
            "energy/active/import": 123_456.789,
            "energy/active/export": None,
        },
    ),
    "shelly-pro-3em": (
        {("input", 1013): "0000 C47A", ("input", 1020): "3334 4366", ("input", 1162): "E600 4640"},
        {"power/active/total": -1000.0, "voltage/l1": 230.2, "energy/active/import": 12.3455},
    ),
    "siemens-logo8": (
        {
            ("discrete", 0): "01",
            ("coil", 8192): "80",
            ("coil", 8256): "02",
            ("input", 0): "00FB FF38",
            ("holding", 528): "8000",
        },
        {
            "input/i1": True,
            "output/q1": False,
            "output/q8": True,
            "flag/m2": True,
            "analog_input/ai1": 251,
            "analog_input/ai2": -200,
            "analog_flag/am1": -32_768,
        },
    ),
    "siemens-pac3200": (
        {("holding", 1): "4366 3334", ("holding", 65): "C47A 0000", ("holding", 801): "4132 D687 0000 0000"},
        {"voltage/l1": 230.2, "power/active/total": -1000.0, "energy/active/import": 1234.567},
    ),
    "sma-sunny-tripower": (
        {
            ("holding", 30_201): "0000 0133",
            ("holding", 30_529): "0012 D687",
            ("holding", 30_773): "0000 1388 8000 0000",
            ("holding", 30_783): "0000 59E2 FFFF FFFF",
            ("holding", 30_953): "0000 0190",
        },
        {
            "status/condition": "ok",
            "energy/active/export": 1234.567,
            "power/dc": 5000,
            "power/active/total": None,
            "voltage/l1": 230.1,
            "voltage/l2": None,
            "temperature/internal": 40.0,
        },
    ),
    "solaredge-three-phase": (
        {
            ("holding", 40_004): "536F 6C61 7245 6467 6500",
            ("holding", 40_071): "0BB8 03E8 03E8 FFFF FFFE",
            ("holding", 40_079): "08FD 08FD 08FD 8000 4E20 FFFF 1387 FFFE",
            ("holding", 40_091): "270F FFFE",
            ("holding", 40_093): "0012 D687 0000",
            ("holding", 40_103): "0FA0 0000 0000 FFFE 0004",
        },
        {
            "device/manufacturer": "SolarEdge",
            "current/total": 30.0,
            "current/l1": 10.0,
            "current/l3": None,
            "voltage/l1": None,  # its scale factor is not implemented
            "power/active/total": 2000.0,
            "frequency": 49.99,
            "power_factor/total": 0.9999,
            "energy/active/export": 1234.567,
            "temperature/heat_sink": 40.0,
            "status/state": "producing",
        },
    ),
    "stiebel-eltron-wpm": (
        {
            ("input", 506): "FFE7",
            ("input", 514): "015E",
            ("input", 517): "8000",
            ("input", 519): "00C8",
            ("input", 2503): "0001",
            ("input", 2506): "0014",
        },
        {
            "temperature/outside": -2.5,
            "temperature/flow": 35.0,
            "temperature/buffer/actual": None,
            "pressure/heating": 2.0,
            "status/fault": "fault",
            "status/active_error": 20,
        },
    ),
    "thies-wsc": (  # 101 is 10.1 m/s, 1010 is 101.0°, 355 is 35.5 % and 923 is 9.23 g/m³ in the manual's table
        {
            ("input", 35_001): "0000 0065 FFFF FFFF 0000 03F2",
            ("input", 35_009): "FFFF FFCE 0000 0000 7FFF FFFF 0000 0163 0000 039B",
        },
        {
            "wind/speed": 10.1,
            "wind/speed_mean": None,
            "wind/direction": 101.0,
            "temperature/air": -5.0,
            "temperature/dew_point": None,
            "humidity/relative": 35.5,
            "humidity/absolute": 9.23,
        },
    ),
    "victron-gx": (
        {
            ("holding", 820): "FF38",
            ("holding", 826): "00F0",
            ("holding", 840): "0202 FF9C FE00 0055 0002",
        },
        {
            "power/grid/l1": -200,
            "status/input": "not connected",
            "battery/voltage": 51.4,
            "battery/current": -10.0,
            "battery/power": -512,
            "battery/charge": 85,
            "battery/state": "discharging",
        },
    ),
    "waveshare-relay-8ch": ({("coil", 0): "85"}, {"relay/1": True, "relay/2": False, "relay/3": True, "relay/8": True}),
    "xy-md02": ({("input", 1): "FFF6 01A1"}, {"temperature/air": -1.0, "humidity/relative": 41.7}),
}
# What has no unit of its own, or is a text, a bit or a number that means something else.
UNITLESS = re.compile(r"power_factor|status/|device/|relay/|input/|output/|flag/|counter/|analog_|battery/state")


def answer(block: Block, image: Registers) -> bytes:
    """What a device with these registers, and 0 in all others, sends for a block."""
    data = bytearray(block.decoder.size_bytes)
    for (table, address), content in image.items():
        raw = bytes.fromhex(content)
        start = address - block.address if block.table in BIT_TABLES else 2 * (address - block.address)
        if table == block.table and 0 <= start < len(data):
            assert start + len(raw) <= len(data) or block.table not in BIT_TABLES
            data[start : start + len(raw)] = raw[: len(data) - start]
    return bytes(data)


def shown(readings: list[Reading]) -> dict[str, Any]:
    assert all((reading.value is None) == (reading.quality is Quality.BAD) for reading in readings)
    return {reading.metric: reading.value for reading in readings}


def test_every_profile_has_an_image() -> None:
    assert profile_names() == sorted(IMAGES)
    assert len(IMAGES) >= 12


@pytest.mark.parametrize("name", IMAGES)
def test_registers_filled_in_by_hand_decode_to_what_they_mean(name: str) -> None:
    image, expected = IMAGES[name]
    found: dict[str, Any] = {}
    for block in load_profile(name).blocks():
        found |= shown(block.readings(answer(block, image), 1)[0])
    for point, value in expected.items():
        assert found[point] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), point


@pytest.mark.parametrize("name", IMAGES)
def test_the_plan_stays_within_the_limits_of_the_device(name: str) -> None:
    profile = load_profile(name)
    read = Counter(point.name for block in profile.blocks() for point in block.points)
    assert read == {point.name: 1 for point in profile.points}
    for block in profile.blocks():
        assert block.unit_id == profile.unit_id
        assert block.count <= (profile.max_bits if block.table in BIT_TABLES else profile.max_registers)
        for wall in profile.forbidden:
            assert wall.table != block.table or not wall.first < block.address + block.count <= wall.last


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_measured_has_a_unit_and_says_what_it_is(name: str) -> None:
    profile = load_profile(name)
    assert profile.serial is not None or profile.tcp
    for point in profile.points:
        assert re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)*", point.name), point.name
        assert point.description, point.name
        assert (point.unit is None) == (UNITLESS.match(point.name) is not None), point.name


def test_a_name_has_the_same_unit_in_all_profiles() -> None:
    units: dict[str, set[str | None]] = {}
    for name in profile_names():
        for point in load_profile(name).points:
            units.setdefault(point.name, set()).add(point.unit)
    assert {name: found for name, found in units.items() if len(found) > 1} == {}
    assert {unit for found in units.values() for unit in found} & {"kW", "kvar", "kVA", "Wh", "varh"} == set()


# In a configuration


def line_config(*units: dict[str, Any], port: int = 502) -> ModbusConfig:
    document = {"type": "modbus", "name": "m", "interval_s": 5, "host": "127.0.0.1", "port": port, "units": units}
    return parse_config(document, ModbusConfig, "edge.yaml")


def test_a_unit_takes_what_its_profile_says_unless_it_says_so_itself() -> None:
    own = {"name": "door", "table": "discrete", "address": 0, "datatype": "bool"}
    only = ["voltage/*", "frequency"]
    meter = {
        "profile": "eastron-sdm630",
        "unit_id": 7,
        "max_gap": 0,
        "only": only,
        "prefix": "meter1/",
        "points": [own],
    }
    config = line_config(meter, {"profile": "sma-sunny-tripower"})
    first, second = config.units
    assert (first.unit_id, first.max_registers, first.max_gap, second.unit_id) == (7, 80, 0, 3)
    names = [point.name for point in first.points]
    assert names == [f"meter1/voltage/{phase}" for phase in ("l1", "l2", "l3")] + [
        "meter1/frequency",
        "meter1/voltage/l1_l2",
        "meter1/voltage/l2_l3",
        "meter1/voltage/l3_l1",
        "door",
    ]
    assert {info.name for info in config.metrics()} > {"meter1/frequency", "power/active/l1", "door"}


def test_a_name_of_the_profile_given_again_is_refused() -> None:
    own = {"name": "hall/temperature/air", "table": "input", "address": 9, "datatype": "int16"}
    with pytest.raises(ConfigError, match="point name hall/temperature/air stands here twice"):
        line_config({"profile": "xy-md02", "prefix": "hall/", "points": [own]})


@pytest.mark.parametrize(
    ("unit", "key"), [({}, "points"), ({"profile": 3}, "profile"), ({"profile": "xy-md02", "only": "x"}, "only")]
)
def test_what_is_no_profile_is_told_as_any_wrong_key_is(unit: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^edge.yaml: units.0.{key}: "):
        line_config({"unit_id": 3} | unit)


@pytest.mark.parametrize(
    ("unit", "complaint"),
    [
        ({"profile": "eastron"}, "found 'eastron', allowed: abb-b23, .*xy-md02"),
        ({"profile": "../points"}, "allowed: abb-b23"),
        ({"profile": "xy-md02", "only": ["humidity"]}, "'humidity', profile xy-md02 has: temperature/air, hum"),
    ],
)
def test_a_profile_or_point_that_is_none_is_refused_with_those_there_are(unit: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"^edge.yaml: units.0: found .*{complaint}"):
        line_config(unit)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"points": [{"name": "a", "address": 0}, {"name": "a", "address": 1}]}, "a stands here twice"),
        ({"forbidden": [{"table": "input", "first": 0, "last": 0}]}, "0 to 0 are forbidden"),
        ({"points": {}}, "points a list"),
        ({"source": None}, "source"),
        ({"kind": "toaster"}, "kind"),
    ],
)
def test_a_wrong_profile_is_refused(change: dict[str, Any], complaint: str) -> None:
    document = {
        "manufacturer": "m",
        "models": ["x"],
        "kind": "relay",
        "source": {"title": "t", "edition": "1", "part": "2"},
        "defaults": {"table": "input", "datatype": "int16"},
        "points": [{"name": "a", "address": 0}],
    }
    assert parse_config(document, Profile, "x.yaml").points[0].table == "input"
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document | change, Profile, "x.yaml")


@pytest.mark.parametrize("name", ["eastron-sdm630", "solaredge-three-phase"])
def test_a_profile_is_read_from_a_server(name: str) -> None:
    image, expected = IMAGES[name]
    profile = load_profile(name)
    [table] = {point.table for point in profile.points}
    held = {address: 0 for block in profile.blocks() for address in range(block.address, block.address + block.count)}
    for (_, address), content in image.items():
        held |= {address + i: int(word, 16) for i, word in enumerate(content.split())}
    cells = [SimData(address, values=[word], datatype=SimType.REGISTERS) for address, word in sorted(held.items())]
    empty = [SimData(0, values=[0], datatype=SimType.REGISTERS)]
    bits = [SimData(0, values=[False], datatype=SimType.BITS)]
    tables = (bits, bits, cells, empty) if table == "holding" else (bits, bits, empty, cells)

    async def poll() -> list[Reading]:
        server = ModbusTcpServer([SimDevice(profile.unit_id, tables)], address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        try:
            port = server.transport.sockets[0].getsockname()[1]
            config = line_config({"profile": name, "prefix": "roof/"}, port=port)
            async with config.open(lambda: time.time_ns() // 1_000_000) as source:
                return await source.poll()
        finally:
            await server.shutdown()

    found = shown(asyncio.run(poll()))
    assert len(found) == len(profile.points)
    for point, value in expected.items():
        assert found[f"roof/{point}"] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), point


# The command and the document


def test_the_library_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()[1:]] == profile_names()


def test_a_profile_is_told_with_its_source_and_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "sma-sunny-tripower"]) == 0
    told = capsys.readouterr().out
    for words in ("SMA-Modbus-general-TI-en-10", "unit id 3", "6 requests", "power/active/l1", "30777"):
        assert words in told


def test_a_profile_that_is_none_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "toaster"]) == 2
    assert "found 'toaster', allowed: abb-b23" in capsys.readouterr().err


def test_the_document_lists_the_library() -> None:
    document = (Path(__file__).parents[2] / "docs" / "modbus-profiles.md").read_text(encoding="utf-8")
    rows = {
        f"| `{name}` | {profile.kind} | {profile.manufacturer} {', '.join(profile.models)} | {len(profile.points)} | "
        f"{profile.source.title}, {profile.source.edition}, {profile.source.part} |"
        for name in profile_names()
        for profile in [load_profile(name)]
    }
    assert {line for line in document.splitlines() if line.startswith("| `")} == rows
