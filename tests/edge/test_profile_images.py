"""Device profiles: each decodes registers that were worked out by hand, on their own and from a server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType as SimType
from pymodbus.simulator import SimData, SimDevice

from contract.sparkplug import Quality
from edge.sources import ModbusConfig
from edge.sources.modbus.points import BIT_TABLES
from edge.sources.modbus.profile import load_profile, profile_names

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
            document = {"type": "modbus", "name": "m", "interval_s": 5, "host": "127.0.0.1", "port": port}
            document["units"] = [{"profile": name, "prefix": "roof/"}]
            config = ModbusConfig.model_validate(document)
            async with config.open(lambda: time.time_ns() // 1_000_000) as source:
                return await source.poll()
        finally:
            await server.shutdown()

    found = shown(asyncio.run(poll()))
    assert len(found) == len(profile.points)
    for point, value in expected.items():
        assert found[f"roof/{point}"] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), point
