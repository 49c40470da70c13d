"""The physics of a small water-treatment line, stepped in fixed time steps.

River water runs into the raw-water tank, pump 1 lifts it through filter and dosing into the clean-water tank,
pump 2 feeds the town. A step is a pure function of the state before it, the set points, the faults that act
and sixteen standard normal numbers, so a seed and a step number give the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOISE_COUNT: Final = 16
TANK_AREA_M2: Final = 12.0
TANK_HEIGHT_M: Final = 5.0
INTAKE_M3_H: Final = 220.0
PUMP_M3_H: Final = 180.0
RATED_RPM: Final = 1480.0
RUNNING_RPM: Final = 10.0
_BASE_LOAD_KW: Final = 6.0
_HEATER_KW: Final = 9.0
_SOLAR_PEAK_KW: Final = 14.0


@dataclass(frozen=True, slots=True)
class Effects:
    """What process faults do: the leak of each tank (m3/h), the wear of each bearing (whole lives per s)."""

    leaks_m3_h: tuple[float, float] = (0.0, 0.0)
    wear_per_s: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Pump:
    """A pump and its motor; `wear` is the share of the bearing's life that is spent."""

    speed_rpm: float
    bearing_c: float
    run_s: float
    energy_wh: float
    starts: int
    wear: float = 0.0
    current_a: float = 0.0

    @property
    def load(self) -> float:
        """Speed as a share of the rated speed."""
        return self.speed_rpm / RATED_RPM

    @property
    def power_kw(self) -> float:
        """Electric power of three phases at 400 V and a power factor of 0.86."""
        return math.sqrt(3) * 0.4 * 0.86 * self.current_a


@dataclass(frozen=True, slots=True)
class Quality:
    """The water after filter and dosing."""

    raw_turbidity_ntu: float = 8.0
    turbidity_ntu: float = 0.3
    ph: float = 7.3
    chlorine_mg_l: float = 0.7
    dose_l_h: float = 2.8
    dosed_ml: float = 512_000.0
    water_c: float = 11.0


@dataclass(frozen=True, slots=True)
class Building:
    """The building and its power meter; imported and exported energy are counted apart."""

    indoor_c: float = 19.0
    co2_ppm: float = 520.0
    frequency_hz: float = 50.0
    heating: bool = False
    power_kw: float = 0.0
    solar_kw: float = 0.0
    imported_wh: float = 5_812_004_300.0
    exported_wh: float = 6_100_250_000.0


@dataclass(frozen=True, slots=True)
class Line:
    """The whole line after a step."""

    step: int
    time_s: float
    day: float
    level_m: tuple[float, float]
    valve: float
    demand_m3_h: float
    pumps: tuple[Pump, Pump]
    quality: Quality
    building: Building
    treated_m3: float
    noise: tuple[float, ...]

    @property
    def inflow_m3_h(self) -> float:
        """What comes in from the river."""
        return self.valve * INTAKE_M3_H

    def flow_m3_h(self, pump: int) -> float:
        """What a pump (0 or 1) moves: nothing from an empty tank."""
        return self.pumps[pump].load * PUMP_M3_H if self.level_m[pump] > 0.0 else 0.0

    @property
    def outdoor_c(self) -> float:
        """Coldest at the start of the day."""
        return 9.0 - 6.0 * math.cos(math.tau * self.day)


def first_line(noise: Sequence[float]) -> Line:
    """The line before its first step."""
    pumps = (
        Pump(speed_rpm=900.0, bearing_c=41.0, run_s=38_610_240.0, energy_wh=8_640_120_500.0, starts=1_204),
        Pump(speed_rpm=820.0, bearing_c=39.0, run_s=25_002_900.0, energy_wh=5_101_733_200.0, starts=986),
    )
    return Line(
        step=0,
        time_s=0.0,
        day=0.0,
        level_m=(3.0, 2.6),
        valve=0.5,
        demand_m3_h=95.0,
        pumps=pumps,
        quality=Quality(),
        building=Building(),
        treated_m3=1_204_331.25,
        noise=tuple(noise),
    )


def advance(
    line: Line, set_points: Mapping[str, float], effects: Effects, noise: Sequence[float], step_s: float, day_s: float
) -> Line:
    """The line one step later."""
    time_s = (line.step + 1) * step_s
    day = time_s / day_s % 1.0
    speeds = _wanted_speeds(line, set_points)
    pumps = (
        _pump(line.pumps[0], speeds[0], effects.wear_per_s[0], noise[0], step_s),
        _pump(line.pumps[1], speeds[1], effects.wear_per_s[1], noise[1], step_s),
    )
    wanted_demand = 95.0 * (1.0 + 0.35 * math.sin(math.tau * day)) + 6.0 * noise[2]
    return Line(
        step=line.step + 1,
        time_s=time_s,
        day=day,
        level_m=_levels(line, effects, step_s),
        valve=_towards(line.valve, _wanted_valve(line, set_points), 4.0, step_s),
        demand_m3_h=_towards(line.demand_m3_h, wanted_demand, 5.0, step_s),
        pumps=pumps,
        quality=_quality(line, set_points, noise, step_s),
        building=_building(line, set_points, noise, step_s),
        treated_m3=line.treated_m3 + line.flow_m3_h(0) * step_s / 3600.0,
        noise=tuple(noise),
    )


def _towards(value: float, target: float, tau_s: float, step_s: float) -> float:
    """First-order lag."""
    return value + (target - value) * min(step_s / tau_s, 1.0)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _levels(line: Line, effects: Effects, step_s: float) -> tuple[float, float]:
    """Mass balance of both tanks; what does not fit runs over."""
    nets_m3_h = (
        line.inflow_m3_h - line.flow_m3_h(0) - effects.leaks_m3_h[0],
        line.flow_m3_h(0) - line.flow_m3_h(1) - effects.leaks_m3_h[1],
    )
    first, second = (
        _clamp(level + net * step_s / 3600.0 / TANK_AREA_M2, 0.0, TANK_HEIGHT_M)
        for level, net in zip(line.level_m, nets_m3_h, strict=True)
    )
    return first, second


def _wanted_valve(line: Line, set_points: Mapping[str, float]) -> float:
    if not set_points["intake/valve_command"]:
        return 0.0
    return _clamp(0.45 + 2.0 * (set_points["tank1/level_setpoint"] - line.level_m[0]), 0.0, 1.0)


def _wanted_speeds(line: Line, set_points: Mapping[str, float]) -> tuple[float, float]:
    """Pump 1 holds the clean-water level, pump 2 follows the demand; rpm."""
    lift = _clamp(0.55 + 0.8 * (set_points["tank2/level_setpoint"] - line.level_m[1]), 0.2, 1.0)
    feed = _clamp(line.demand_m3_h / PUMP_M3_H, 0.2, 1.0)
    first, second = (
        RATED_RPM * min(share, set_points[f"{name}/speed_limit"] / 100.0) if set_points[f"{name}/run_command"] else 0.0
        for name, share in (("pump1", lift), ("pump2", feed))
    )
    return first, second


def _pump(pump: Pump, wanted_rpm: float, wear_per_s: float, noise: float, step_s: float) -> Pump:
    """Wear heats the bearing and loads the motor; it stops growing at 1, and a fault that ends is a new bearing."""
    speed_rpm = _towards(pump.speed_rpm, wanted_rpm, 3.0, step_s)
    wear = min(pump.wear + wear_per_s * step_s, 1.0) if wear_per_s else 0.0
    load = speed_rpm / RATED_RPM
    was_running, is_running = pump.speed_rpm > RUNNING_RPM, speed_rpm > RUNNING_RPM
    current_a = max(4.0 + 26.0 * load**3 * (1.0 + 0.25 * wear) + 0.15 * noise, 0.0) if is_running else 0.0
    return Pump(
        speed_rpm=speed_rpm,
        bearing_c=_towards(pump.bearing_c, 18.0 + 28.0 * load**2 + 45.0 * wear, 60.0, step_s),
        run_s=pump.run_s + is_running * step_s,
        energy_wh=pump.energy_wh + pump.power_kw * step_s / 3.6,
        starts=pump.starts + (is_running and not was_running),
        wear=wear,
        current_a=current_a,
    )


def _quality(line: Line, set_points: Mapping[str, float], noise: Sequence[float], step_s: float) -> Quality:
    """Chlorine is dosed in proportion to what is missing, and diluted by the flow."""
    water, jitter = line.quality, math.sqrt(step_s)
    dose_l_h = _clamp(2.0 + 8.0 * (set_points["chlorine/setpoint"] - water.chlorine_mg_l), 0.0, 12.0)
    strength = dose_l_h * 25.0 / max(line.flow_m3_h(0), 20.0)
    raw_ntu = max(_towards(water.raw_turbidity_ntu, 8.0, 90.0, step_s) + 0.25 * jitter * noise[3], 0.2)
    return Quality(
        raw_turbidity_ntu=raw_ntu,
        turbidity_ntu=_towards(water.turbidity_ntu, 0.035 * raw_ntu, 20.0, step_s),
        ph=_clamp(_towards(water.ph, set_points["ph/setpoint"], 40.0, step_s) + 0.01 * jitter * noise[4], 0.0, 14.0),
        chlorine_mg_l=_towards(water.chlorine_mg_l, strength, 30.0, step_s),
        dose_l_h=dose_l_h,
        dosed_ml=water.dosed_ml + dose_l_h * step_s / 3.6,
        water_c=_towards(water.water_c, 11.0 + 0.4 * (line.outdoor_c - 9.0), 300.0, step_s),
    )


def _building(line: Line, set_points: Mapping[str, float], noise: Sequence[float], step_s: float) -> Building:
    """A thermostat with half a degree of slack; the roof's panels send back what the plant does not use."""
    house = line.building
    target_c = set_points["building/temperature_setpoint"]
    heating = house.indoor_c < target_c + (0.25 if house.heating else -0.25)
    warmed_c = line.outdoor_c + (24.0 if heating else 2.0)
    power_kw = _BASE_LOAD_KW + _HEATER_KW * heating + sum(pump.power_kw for pump in line.pumps)
    solar_kw = _SOLAR_PEAK_KW * max(-math.cos(math.tau * line.day), 0.0)
    net_wh = (power_kw - solar_kw) * step_s / 3.6
    people = max(math.sin(math.tau * (line.day - 0.3)), 0.0)
    return Building(
        indoor_c=_towards(house.indoor_c, warmed_c, 1800.0, step_s),
        co2_ppm=_towards(house.co2_ppm, 420.0 + 700.0 * people, 120.0, step_s) + 0.5 * noise[5],
        frequency_hz=_towards(house.frequency_hz, 50.0, 30.0, step_s) + 0.002 * noise[6],
        heating=heating,
        power_kw=power_kw,
        solar_kw=solar_kw,
        imported_wh=house.imported_wh + max(net_wh, 0.0),
        exported_wh=house.exported_wh + max(-net_wh, 0.0),
    )
