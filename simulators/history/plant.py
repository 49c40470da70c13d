"""The plant's analogue readings as a Modbus master has them, while an operator moves a set point now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from simulators.history.faults import spaced_faults, where
from simulators.history.recorded import BEGIN_MS, Incident, Recorded
from simulators.plant.faults import StuckSensor, effects
from simulators.plant.points import Kind
from simulators.plant.process import NOISE_COUNT, advance, first_line
from simulators.plant.readings import SET_POINTS, quantities
from simulators.plant.register_map import POINTS, SHARING
from simulators.plant.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulators.history.recorded import Floats
    from simulators.ledger import Value
    from simulators.plant.faults import AnyFault
    from simulators.plant.points import PlantPoint
    from simulators.plant.schedule import ScheduledFault

DAY_S: Final = 3600.0
# The tanks start out of balance; what comes before this is not told.
_SETTLING_S: Final = 600.0
_OPERATOR_MEAN_S: Final = 300.0
# What an operator sets, within a narrower range than what is allowed.
_MOVES: Final = {
    "tank1/level_setpoint": (2.0, 4.0),
    "tank2/level_setpoint": (2.0, 4.0),
    "chlorine/setpoint": (0.6, 1.0),
    "ph/setpoint": (7.1, 7.7),
    "building/temperature_setpoint": (18.0, 22.0),
    "pump1/speed_limit": (85.0, 100.0),
}
_COUNTERS: Final = ("/run_hours", "/energy", "/starts", "_energy", "_volume")

ANALOGUE: Final = tuple(
    point
    for point in POINTS.values()
    if point.kind not in {Kind.BOOL, Kind.STRING} and point.name not in SHARING and not point.name.endswith(_COUNTERS)
)


def plant_history(
    seed: int, steps: int, step_s: float = 1.0, *, day_s: float = DAY_S, with_faults: bool = False
) -> Recorded:
    """A reading of each analogue point at each step, in the resolution of its registers; counters are left out."""
    rng = np.random.default_rng([seed, 1])
    settling = round(_SETTLING_S / step_s)
    faults = list(spaced_faults(seed, steps * step_s, _SETTLING_S)) if with_faults else []
    schedule = Schedule(faults, step_s)
    shown: Floats = np.empty((steps, len(ANALOGUE)))
    incidents = []
    for step, (quantity, ended) in enumerate(_run(schedule, rng, settling + steps, step_s, day_s), -settling):
        incidents += [_incident(each, settling, step_s) for each in ended]
        if step >= 0:
            shown[step] = quantity
    incidents += [_incident(each, settling, step_s) for each in schedule.active]
    return Recorded(
        at_ms=BEGIN_MS + np.rint(np.arange(steps) * step_s * 1000).astype(np.int64),
        values=as_read(ANALOGUE, shown),
        units={point.name: point.unit or "" for point in ANALOGUE},
        incidents=tuple(sorted(incidents, key=lambda each: each.start_ms)),
    )


def _run(
    schedule: Schedule, rng: np.random.Generator, steps: int, step_s: float, day_s: float
) -> Iterator[tuple[list[float], list[ScheduledFault]]]:
    """At each step the analogue points' quantities, and the faults that ended with it."""
    names = [point.name for point in ANALOGUE]
    points = {name: point.default for name, point in SET_POINTS.items()}
    stuck: dict[str, Value] = {}
    line = first_line([0.0] * NOISE_COUNT)
    acting = effects(())
    for _ in range(steps):
        if rng.random() < step_s / _OPERATOR_MEAN_S:
            points |= _move(rng)
        started, ended = schedule.move_to(line.step + 1)
        if started or ended:
            acting = effects(each.fault for each in schedule.active)
        line = advance(line, points, acting, rng.standard_normal(NOISE_COUNT).tolist(), step_s, day_s)
        shown = quantities(line, points)
        if started or ended:
            sticking = [each.fault.point for each in schedule.active if isinstance(each.fault, StuckSensor)]
            stuck = {name: stuck.get(name, shown[name]) for name in sticking}
        shown |= stuck
        yield [float(shown[name]) for name in names], ended


def _move(rng: np.random.Generator) -> dict[str, float]:
    name = list(_MOVES)[int(rng.integers(len(_MOVES)))]
    return {name: float(rng.uniform(*_MOVES[name]))}


def as_read(points: Sequence[PlantPoint], shown: Floats) -> Floats:
    """Quantities [steps, points] as they come out of the registers: what `to_value` makes of `to_raw`, in columns."""
    read = np.empty_like(shown)
    for column, point in enumerate(points):
        scale, offset = 1.0 if point.scale is None else point.scale, point.offset or 0.0
        raw = (shown[:, column] - offset) / scale
        if point.kind in {Kind.FLOAT32, Kind.FLOAT64}:
            raw = raw.astype(point.kind.value).astype(np.float64)
        else:
            limits = np.iinfo(point.kind.value)
            raw = np.clip(np.rint(raw), limits.min, limits.max)
        read[:, column] = raw * scale + offset if point.is_scaled else raw
    return read


def _incident(scheduled: ScheduledFault, settling: int, step_s: float) -> Incident:
    fault: AnyFault = scheduled.fault
    # Step n of the plant is row n - 1 - settling: its first step is 1.
    start, end = (
        BEGIN_MS + round((step - 1 - settling) * step_s * 1000) for step in (scheduled.from_step, scheduled.to_step)
    )
    return Incident(fault.kind, where(fault), start, end)
