"""What the line's instruments show: every point's quantity, from the physics and the set points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulators.plant.process import PUMP_M3_H, RATED_RPM, RUNNING_RPM, TANK_AREA_M2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulators.ledger import Value
    from simulators.plant.process import Line


@dataclass(frozen=True, slots=True)
class SetPoint:
    """What a client may write: how it starts, and what is allowed."""

    default: float
    low: float
    high: float


_SWITCH: Final = SetPoint(1.0, 0.0, 1.0)
SET_POINTS: Final[Mapping[str, SetPoint]] = {
    "intake/valve_command": _SWITCH,
    "tank1/level_setpoint": SetPoint(3.0, 0.5, 4.5),
    "tank2/level_setpoint": SetPoint(2.8, 0.5, 4.5),
    "pump1/run_command": _SWITCH,
    "pump2/run_command": _SWITCH,
    "pump1/speed_limit": SetPoint(100.0, 20.0, 100.0),
    "pump2/speed_limit": SetPoint(100.0, 20.0, 100.0),
    "chlorine/setpoint": SetPoint(0.8, 0.0, 4.0),
    "ph/setpoint": SetPoint(7.4, 6.5, 8.5),
    "building/temperature_setpoint": SetPoint(20.0, 5.0, 28.0),
}

_NAME_PLATES: Final = {
    "intake/serial_number": "HW-INTAKE-004711",
    "intake/firmware": "2.14.3",
    "pumps/serial_number": "MCC-88-0219",
    "quality/serial_number": "AQ7-30551",
    "mains/meter_serial": "EM-340-1190027",
    "mains/meter_firmware": "v1.0.9",
}
_HIGH_M: Final = 4.5
_LOW_M: Final = 0.5


def quantities(line: Line, set_points: Mapping[str, float]) -> dict[str, Value]:
    """Every point's quantity in its unit, by name."""
    return {
        **_NAME_PLATES,
        **set_points,
        **_intake(line),
        **_pump(line, 0),
        **_pump(line, 1),
        **_quality(line),
        **_building(line),
    }


def _intake(line: Line) -> dict[str, Value]:
    first, second = line.level_m
    limits = {
        "tank1_high": first > _HIGH_M,
        "tank1_low": first < _LOW_M,
        "tank2_high": second > _HIGH_M,
        "tank2_low": second < _LOW_M,
    }
    alarms = {**limits, "valve_closed": line.valve < 0.01}  # noqa: PLR2004 - a hundredth open counts as closed
    bits = (0, 1, 2, 3, 15)
    return {
        **{f"{name.replace('_', '/level_')}": on for name, on in limits.items()},
        **{f"intake/alarm_{name}": on for name, on in alarms.items()},
        "intake/alarm_word": sum(on << bit for on, bit in zip(alarms.values(), bits, strict=True)),
        "tank1/level": first + 0.001 * line.noise[7],
        "tank2/level": second + 0.001 * line.noise[8],
        "tank1/volume": first * TANK_AREA_M2 * 1000.0,
        "tank2/volume": second * TANK_AREA_M2 * 1000.0,
        "intake/flow": max(line.inflow_m3_h + 0.3 * line.noise[9], 0.0),
        "intake/valve_position": 100.0 * line.valve,
        "intake/water_temperature": line.quality.water_c,
        "intake/pressure": 40.0 - 90.0 * line.valve**2 + line.noise[9],
    }


def _pump(line: Line, index: int) -> dict[str, Value]:
    pump, name, noise = line.pumps[index], f"pump{index + 1}", line.noise[10 + index]
    return {
        f"{name}/running": pump.speed_rpm > RUNNING_RPM,
        f"{name}/overload": pump.current_a > 28.0,  # noqa: PLR2004 - the motor's rated current in A
        f"{name}/speed": pump.speed_rpm,
        f"{name}/current": pump.current_a,
        f"{name}/bearing_temperature": pump.bearing_c + 0.05 * noise,
        f"{name}/vibration": max(pump.load * (1.6 + 7.0 * pump.wear) + 0.1 + 0.04 * noise, 0.0),
        f"{name}/flow": line.flow_m3_h(index),
        f"{name}/run_hours": pump.run_s / 3600.0,
        f"{name}/energy": int(pump.energy_wh),
        f"{name}/starts": pump.starts,
        f"{name}/power": 1000.0 * pump.power_kw,
    }


def _quality(line: Line) -> dict[str, Value]:
    water = line.quality
    return {
        "chlorine/dosing_active": water.dose_l_h > 0.05,  # noqa: PLR2004 - the pump's shortest stroke
        "turbidity/alarm": water.turbidity_ntu > 0.5,  # noqa: PLR2004 - the limit in NTU
        "quality/ph": water.ph + 0.003 * line.noise[12],
        "quality/turbidity": water.turbidity_ntu,
        "quality/raw_turbidity": water.raw_turbidity_ntu,
        "quality/chlorine": max(water.chlorine_mg_l + 0.004 * line.noise[13], 0.0),
        "quality/temperature": water.water_c,
        "quality/flow": line.flow_m3_h(0) + 0.002 * PUMP_M3_H * line.noise[13],
        "quality/treated_volume": line.treated_m3,
        "chlorine/dose_rate": water.dose_l_h,
        "chlorine/dosed_volume": water.dosed_ml,
        "quality/conductivity": 410.0 + 9.0 * water.raw_turbidity_ntu,
    }


def _building(line: Line) -> dict[str, Value]:
    house = line.building
    net_kw = house.power_kw - house.solar_kw
    volts = [231.0 - 0.05 * house.power_kw + 0.3 * line.noise[12 + phase] for phase in range(3)]
    shares = (0.31, 0.34, 0.35)
    return {
        **{f"mains/voltage_l{i}": volt for i, volt in enumerate(volts, 1)},
        **{
            f"mains/current_l{i}": 1000.0 * net_kw * share / volt / 0.94
            for i, (share, volt) in enumerate(zip(shares, volts, strict=True), 1)
        },
        "mains/power": 1000.0 * net_kw,
        "mains/frequency": house.frequency_hz,
        "mains/power_factor": math.copysign(0.94 - 0.02 * line.pumps[0].speed_rpm / RATED_RPM, net_kw),
        "mains/imported_energy": int(house.imported_wh),
        "mains/net_energy": int(house.imported_wh - house.exported_wh),
        "building/outdoor_temperature": line.outdoor_c,
        "building/indoor_temperature": house.indoor_c,
        "building/co2": house.co2_ppm,
        "building/humidity": 48.0 - 1.1 * (house.indoor_c - 20.0) + 0.1 * line.noise[15],
        "building/heating": house.heating,
        "building/door_open": line.step // 170 % 9 == 0,
    }
