"""Faults for a history: each kind of the process that changes what is read, in turn, and time to recover between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from simulators.plant.faults import BearingWear, Leak, StuckSensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulators.plant.faults import AnyFault

# Sensors of what moves by itself: one that shows a set point, or hardly moves, is not seen to be stuck.
STICKING: Final = (
    "tank1/level",
    "tank2/level",
    "intake/flow",
    "intake/pressure",
    "pump1/speed",
    "pump1/current",
    "pump1/bearing_temperature",
    "pump1/vibration",
    "pump1/flow",
    "pump2/speed",
    "pump2/current",
    "pump2/bearing_temperature",
    "pump2/vibration",
    "pump2/flow",
    "quality/chlorine",
    "quality/ph",
    "quality/flow",
)
_LASTS_S: Final = (120.0, 300.0)
_PAUSE_S: Final = (400.0, 800.0)


def spaced_faults(seed: int, span_s: float, from_s: float) -> Iterator[AnyFault]:
    """Faults of a seed within a span that begins at `from_s` after the plant's start; all are over before its end."""
    rng = np.random.default_rng([seed, 2])
    at_s = from_s + float(rng.uniform(*_PAUSE_S))
    while True:
        for make in rng.permutation(np.array(_MENU, dtype=object)):
            lasts_s = float(rng.uniform(*_LASTS_S))
            if at_s + lasts_s > from_s + span_s:
                return
            yield make(rng, at_s, lasts_s)
            at_s += lasts_s + float(rng.uniform(*_PAUSE_S))


def where(fault: AnyFault) -> str:
    """What is leaking, wearing or stuck."""
    match fault:
        case Leak():
            return f"tank{fault.tank}"
        case BearingWear():
            return f"pump{fault.pump}"
        case StuckSensor():
            return fault.point
        case _:
            return ""


def _leak_of_first(rng: np.random.Generator, at_s: float, lasts_s: float) -> AnyFault:
    return Leak(tank=1, flow_m3_h=float(rng.uniform(30, 120)), start_s=at_s, duration_s=lasts_s)


def _leak_of_second(rng: np.random.Generator, at_s: float, lasts_s: float) -> AnyFault:
    return Leak(tank=2, flow_m3_h=float(rng.uniform(30, 120)), start_s=at_s, duration_s=lasts_s)


def _wear_of_first(rng: np.random.Generator, at_s: float, lasts_s: float) -> AnyFault:
    return BearingWear(pump=1, life_s=float(rng.uniform(100, 400)), start_s=at_s, duration_s=lasts_s)


def _wear_of_second(rng: np.random.Generator, at_s: float, lasts_s: float) -> AnyFault:
    return BearingWear(pump=2, life_s=float(rng.uniform(100, 400)), start_s=at_s, duration_s=lasts_s)


def _stuck(rng: np.random.Generator, at_s: float, lasts_s: float) -> AnyFault:
    return StuckSensor(point=STICKING[int(rng.integers(len(STICKING)))], start_s=at_s, duration_s=lasts_s)


_MENU: Final[tuple[Callable[[np.random.Generator, float, float], AnyFault], ...]] = (
    _leak_of_first,
    _leak_of_second,
    _wear_of_first,
    _wear_of_second,
    _stuck,
    _stuck,
)
