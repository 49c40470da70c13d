"""What a camera shows in certain hours of its days, as small as models of its scene see it, and what happened there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from contract.config import ConfigError
from contract.scene import DAY_S, SIDE, span_of
from simulators.camera.incidents import IncidentKind, IncidentPlan, IncidentSchedule
from simulators.history.recorded import BEGIN_MS, FORMAT, Incident, incident_arrays, write_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Times: TypeAlias = NDArray[np.int64]
    Pictures: TypeAlias = NDArray[np.uint8]

# As the simulated camera has it by default.
_WIDTH: Final = 320
_HEIGHT: Final = 240
_FPS: Final = 10
# Each kind in turn, with time between them for what learns from what it sees.
_EVERY_S: Final = 240.0
_LASTS_S: Final = 40.0
_AFTER_S: Final = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """`at_ms` int64 [n], UTC ms; `pictures` uint8 [n, 96, 96], grey."""

    at_ms: Times
    pictures: Pictures
    incidents: tuple[Incident, ...] = ()


def camera_history(
    seed: int, steps: int, step_s: float = 60.0, *, hours: str = "00:00-24:00", day: int = 0, with_faults: bool = False
) -> Watched:
    """So many pictures in these hours (UTC) of the days from number `day` on; with incidents of every kind in turn."""
    # Heavy: the other histories need no OpenCV.
    import cv2  # noqa: PLC0415 - as above

    from simulators.camera.frames import FrameMaker  # noqa: PLC0415 - as above
    from simulators.camera.scene import Scene  # noqa: PLC0415 - as above

    at_ms = _times(steps, step_s, hours, day)
    plan = IncidentPlan(seed, _schedules() if with_faults else ())
    maker = FrameMaker(Scene(seed, _WIDTH, _HEIGHT, DAY_S), plan, _FPS)
    pictures = np.empty((steps, SIDE, SIDE), np.uint8)
    for place, taken_ms in enumerate(at_ms):
        jpeg = np.frombuffer(maker.make(maker.latest(taken_ms / 1000)).jpeg, np.uint8)
        grey = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
        pictures[place] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return Watched(at_ms, pictures, _incidents(plan, at_ms))


def save_pictures(watched: Watched, path: Path) -> None:
    """An .npz of plain arrays, at once or not at all; raises SimulatorError."""
    arrays = {"format": np.int64(FORMAT), "at_ms": watched.at_ms, "pictures": watched.pictures}
    write_arrays(arrays | incident_arrays(watched.incidents), path)


def _times(steps: int, step_s: float, hours: str, day: int) -> Times:
    try:
        begin_s, span_s = span_of(hours)
    except ValueError as exc:
        raise ConfigError(f"--hours: {exc}") from exc
    a_day = np.arange(0, span_s, step_s)
    days = np.arange(day, day + -(-steps // len(a_day))) * DAY_S
    at_s = (days[:, None] + begin_s + a_day[None, :]).reshape(-1)[:steps]  # days x pictures of a day
    return np.asarray(BEGIN_MS + np.round(1000 * at_s), np.int64)


def _schedules() -> list[IncidentSchedule]:
    kinds = list(IncidentKind)
    return [
        IncidentSchedule(
            kinds=(kind,), every_s=_EVERY_S * len(kinds), duration_s=_LASTS_S, at_s=_EVERY_S * place + _AFTER_S
        )
        for place, kind in enumerate(kinds)
    ]


def _incidents(plan: IncidentPlan, at_ms: Times) -> tuple[Incident, ...]:
    """Those of which there is a picture, in order."""
    seen = {incident for taken_ms in at_ms.tolist() for incident in plan.at(taken_ms)}
    return tuple(Incident(str(each.kind), "gate", each.from_ms, each.to_ms) for each in sorted(seen))
