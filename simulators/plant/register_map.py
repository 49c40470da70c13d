"""The register maps of the line's four units.

Mixed on purpose, as grown plants are: every datatype, four ways to order bytes and words, scaled values, bits in
words, and name plates far from the measurements. A hole of a few registers reads as zero; further
off is an illegal address.
"""

from __future__ import annotations

from typing import Final

from simulators.plant.points import Kind, Order, PlantPoint, Table

_COIL, _DISCRETE, _HOLDING, _INPUT = Table.COIL, Table.DISCRETE, Table.HOLDING, Table.INPUT
_LITTLE: Final = Order.LITTLE
_NAME_PLATE: Final = 1000


def _bit(name: str, table: Table, address: int, description: str, bit: int | None = None) -> PlantPoint:
    return PlantPoint(name, table, address, Kind.BOOL, description, bit=bit)


def _text(name: str, address: int, length: int, description: str, byte_order: Order = Order.BIG) -> PlantPoint:
    return PlantPoint(name, _HOLDING, address, Kind.STRING, description, length=length, byte_order=byte_order)


def _intake() -> tuple[PlantPoint, ...]:
    """Unit 1: word order little throughout, as its maker has it."""
    p = PlantPoint
    return (
        _bit("intake/valve_command", _COIL, 0, "Intake valve may open"),
        _bit("tank1/level_high", _DISCRETE, 0, "Raw-water tank above 4.5 m"),
        _bit("tank1/level_low", _DISCRETE, 1, "Raw-water tank below 0.5 m"),
        _bit("tank2/level_high", _DISCRETE, 2, "Clean-water tank above 4.5 m"),
        _bit("tank2/level_low", _DISCRETE, 3, "Clean-water tank below 0.5 m"),
        p("tank1/level", _INPUT, 0, Kind.FLOAT32, "Raw-water tank level", "m", word_order=_LITTLE),
        p("tank2/level", _INPUT, 2, Kind.FLOAT32, "Clean-water tank level", "m", word_order=_LITTLE),
        p("tank1/volume", _INPUT, 4, Kind.UINT32, "Raw-water tank volume", "L", word_order=_LITTLE),
        p("tank2/volume", _INPUT, 6, Kind.UINT32, "Clean-water tank volume", "L", word_order=_LITTLE),
        p("intake/flow", _INPUT, 8, Kind.FLOAT32, "Flow from the river", "m3/h", word_order=_LITTLE),
        p("intake/valve_position", _INPUT, 10, Kind.UINT16, "Intake valve opening", "%", scale=0.01),
        p("intake/water_temperature", _INPUT, 11, Kind.INT16, "River water temperature", "degC", scale=0.1),
        p("intake/pressure", _INPUT, 12, Kind.INT16, "Pressure against the atmosphere", "mbar"),
        p("intake/alarm_word", _INPUT, 16, Kind.UINT16, "Alarms, one a bit: see the alarm points"),
        _bit("intake/alarm_tank1_high", _INPUT, 16, "Alarm: raw-water tank high", bit=0),
        _bit("intake/alarm_tank1_low", _INPUT, 16, "Alarm: raw-water tank low", bit=1),
        _bit("intake/alarm_tank2_high", _INPUT, 16, "Alarm: clean-water tank high", bit=2),
        _bit("intake/alarm_tank2_low", _INPUT, 16, "Alarm: clean-water tank low", bit=3),
        _bit("intake/alarm_valve_closed", _INPUT, 16, "Alarm: intake valve closed", bit=15),
        p(
            "tank1/level_setpoint",
            _HOLDING,
            0,
            Kind.FLOAT32,
            "Level that the intake valve holds",
            "m",
            word_order=_LITTLE,
        ),
        p("tank2/level_setpoint", _HOLDING, 2, Kind.FLOAT32, "Level that pump 1 holds", "m", word_order=_LITTLE),
        _text("intake/serial_number", _NAME_PLATE, 8, "Serial number of the intake's controller"),
        _text("intake/firmware", _NAME_PLATE + 8, 4, "Firmware of the intake's controller"),
    )


def _pump(number: int) -> tuple[PlantPoint, ...]:
    p, name, at = PlantPoint, f"pump{number}", 20 * (number - 1)
    return (
        _bit(f"{name}/run_command", _COIL, number - 1, f"Pump {number} shall run"),
        _bit(f"{name}/running", _DISCRETE, 2 * (number - 1), f"Pump {number} turns"),
        _bit(f"{name}/overload", _DISCRETE, 2 * (number - 1) + 1, f"Pump {number} motor above 28 A"),
        p(f"{name}/speed", _INPUT, at, Kind.INT16, "Shaft speed", "rpm", byte_order=_LITTLE),
        p(f"{name}/current", _INPUT, at + 1, Kind.UINT16, "Motor current of each phase", "A", scale=0.01),
        p(f"{name}/bearing_temperature", _INPUT, at + 2, Kind.INT16, "Bearing temperature", "degC", scale=0.1),
        p(f"{name}/vibration", _INPUT, at + 3, Kind.FLOAT32, "Bearing vibration velocity, RMS", "mm/s"),
        p(f"{name}/flow", _INPUT, at + 5, Kind.FLOAT64, "Flow through the pump", "m3/h", word_order=_LITTLE),
        p(f"{name}/run_hours", _INPUT, at + 9, Kind.UINT32, "Time run", "h", scale=0.001),
        p(f"{name}/energy", _INPUT, at + 11, Kind.UINT64, "Energy used", "Wh"),
        p(f"{name}/starts", _INPUT, at + 15, Kind.UINT16, "Times started", "1"),
        p(f"{name}/power", _INPUT, at + 16, Kind.INT32, "Electric power", "W", byte_order=_LITTLE, word_order=_LITTLE),
        p(f"{name}/speed_limit", _HOLDING, number - 1, Kind.UINT16, "Highest speed allowed", "%", scale=0.1),
    )


def _pumps() -> tuple[PlantPoint, ...]:
    """Unit 2: big-endian, but for the speed and power of a drive that swaps bytes."""
    plate = _text("pumps/serial_number", _NAME_PLATE, 6, "Serial number of the motor control", byte_order=_LITTLE)
    return (*_pump(1), *_pump(2), plate)


def _quality() -> tuple[PlantPoint, ...]:
    """Unit 3: an analyser that knows floats only, and integers with a scale for its set points."""
    p = PlantPoint
    return (
        _bit("chlorine/dosing_active", _DISCRETE, 0, "Chlorine pump strokes"),
        _bit("turbidity/alarm", _DISCRETE, 1, "Filtered water above 0.5 NTU"),
        p("quality/ph", _INPUT, 100, Kind.FLOAT32, "pH after dosing", "pH"),
        p("quality/turbidity", _INPUT, 102, Kind.FLOAT32, "Turbidity after the filter", "NTU"),
        p(
            "quality/raw_turbidity",
            _INPUT,
            104,
            Kind.FLOAT32,
            "Turbidity of the river water",
            "NTU",
            byte_order=_LITTLE,
        ),
        p("quality/chlorine", _INPUT, 106, Kind.FLOAT32, "Free chlorine", "mg/L"),
        p("quality/temperature", _INPUT, 108, Kind.FLOAT32, "Water temperature", "degC"),
        p("quality/flow", _INPUT, 110, Kind.FLOAT64, "Flow through the filter", "m3/h"),
        p("quality/treated_volume", _INPUT, 114, Kind.FLOAT64, "Water treated so far", "m3", byte_order=_LITTLE),
        p("chlorine/dose_rate", _INPUT, 118, Kind.UINT16, "Chlorine dosed", "L/h", scale=0.001),
        p("chlorine/dosed_volume", _INPUT, 119, Kind.UINT32, "Chlorine dosed so far", "mL"),
        p("quality/conductivity", _INPUT, 121, Kind.UINT16, "Conductivity", "uS/cm"),
        p("chlorine/setpoint", _HOLDING, 10, Kind.FLOAT32, "Free chlorine to hold", "mg/L"),
        p("ph/setpoint", _HOLDING, 12, Kind.UINT16, "pH to hold", "pH", scale=0.01),
        _text("quality/serial_number", _NAME_PLATE, 5, "Serial number of the analyser"),
    )


def _building() -> tuple[PlantPoint, ...]:
    """Unit 4: a power meter and the building's controller behind one gateway."""
    p = PlantPoint
    volts = tuple(
        p(f"mains/voltage_l{i}", _INPUT, i - 1, Kind.UINT16, f"Voltage of L{i} to N", "V", scale=0.1) for i in (1, 2, 3)
    )
    amps = tuple(
        p(f"mains/current_l{i}", _INPUT, 2 * i + 1, Kind.INT32, f"Current of L{i}", "A", scale=0.001) for i in (1, 2, 3)
    )
    return (
        *volts,
        *amps,
        p("mains/power", _INPUT, 9, Kind.INT32, "Power drawn; negative is sent back", "W", word_order=_LITTLE),
        p("mains/frequency", _INPUT, 11, Kind.UINT16, "Mains frequency", "Hz", scale=0.001, offset=0.0),
        p("mains/power_factor", _INPUT, 12, Kind.INT16, "Power factor", "1", scale=0.001),
        p("mains/imported_energy", _INPUT, 13, Kind.UINT64, "Energy drawn", "Wh", word_order=_LITTLE),
        p("mains/net_energy", _INPUT, 17, Kind.INT64, "Energy drawn less energy sent back", "Wh"),
        p("building/outdoor_temperature", _INPUT, 40, Kind.UINT16, "Outdoors", "degC", scale=0.1, offset=-40.0),
        p("building/indoor_temperature", _INPUT, 41, Kind.INT16, "Control room", "degC", scale=0.01),
        p("building/co2", _INPUT, 42, Kind.UINT16, "CO2 in the control room", "ppm", byte_order=_LITTLE),
        p("building/humidity", _INPUT, 43, Kind.FLOAT32, "Relative humidity of the control room", "%"),
        p("building/temperature_setpoint", _HOLDING, 0, Kind.INT16, "Control room heated to", "degC", scale=0.1),
        _bit("building/heating", _DISCRETE, 0, "Heater on"),
        _bit("building/door_open", _DISCRETE, 1, "Door of the control room open"),
        _text("mains/meter_serial", _NAME_PLATE, 7, "Serial number of the power meter"),
        _text("mains/meter_firmware", _NAME_PLATE + 7, 3, "Firmware of the power meter", byte_order=_LITTLE),
    )


UNITS: Final = {1: _intake(), 2: _pumps(), 3: _quality(), 4: _building()}
POINTS: Final = {point.name: point for points in UNITS.values() for point in points}
# A word of bits, and the bits in it: neither can go its own way.
SHARING: Final = frozenset(
    point.name
    for points in UNITS.values()
    for point in points
    for other in points
    if point is not other and point.table is other.table and point.address < other.end and other.address < point.end
)
