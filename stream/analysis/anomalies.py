"""The detectors that every numeric series has, and the incidents that their scores make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from contract.config import Config
from stream.analysis.incidents import IncidentConfig, Incidents
from stream.analysis.robust import RobustAnomalies, RobustConfig
from stream.analysis.stuck import StuckConfig, StuckSensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from stream.analysis.arrivals import Steps, Times
    from stream.analysis.incidents import IncidentRows

ROBUST: Final = "robust"
STUCK: Final = "stuck"


class AnomalyConfig(Config):
    """What is unusual for a series, and when that is an incident."""

    robust: RobustConfig = RobustConfig()
    robust_incidents: IncidentConfig = Field(IncidentConfig(), description="of scores in robust standard deviations")
    stuck: StuckConfig = StuckConfig()
    stuck_incidents: IncidentConfig = Field(
        IncidentConfig(threshold=2, clear=1, least_steps=1, join_steps=1),
        description="of scores in how many times longer than usual a value stays the same",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a detector's scores came to."""

    detector: str
    threshold: float
    rows: IncidentRows


class Anomalies:
    """Far from the usual, or the same for too long: each with incidents of its own."""

    FORMAT: ClassVar[int] = 1

    def __init__(
        self, settings: AnomalyConfig, step_ms: int, arrays: Mapping[str, NDArray[np.generic]] | None = None
    ) -> None:
        self._detectors: dict[str, RobustAnomalies | StuckSensors] = {
            ROBUST: RobustAnomalies(settings.robust, step_ms, _of(arrays, ROBUST)),
            STUCK: StuckSensors(settings.stuck, step_ms, _of(arrays, STUCK)),
        }
        self._settings = {ROBUST: settings.robust_incidents, STUCK: settings.stuck_incidents}
        self._incidents = {
            name: Incidents(each, _of(arrays, f"{name}_incidents")) for name, each in self._settings.items()
        }

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        detectors = {name: part.arrays() for name, part in self._detectors.items()}
        parts = detectors | {f"{name}_incidents": part.arrays() for name, part in self._incidents.items()}
        return {f"{part}.{name}": array for part, kept in parts.items() for name, array in kept.items()}

    def grow(self, slots: int) -> None:
        """Room for new series."""
        for part in (*self._detectors.values(), *self._incidents.values()):
            part.grow(slots)

    def advance(self, steps: Steps, complete_ms: Times | None = None) -> tuple[Told, ...]:
        """What these steps come to, by detector; `complete_ms` int64 [slots] as `Incidents.advance` has it."""
        scores = {name: detector.advance(steps) for name, detector in self._detectors.items()}
        return tuple(
            Told(name, self._settings[name].threshold, self._incidents[name].advance(found, complete_ms))
            for name, found in scores.items()
        )


def _of(arrays: Mapping[str, NDArray[np.generic]] | None, part: str) -> dict[str, NDArray[np.generic]] | None:
    if arrays is None:
        return None
    return {name.removeprefix(f"{part}."): array for name, array in arrays.items() if name.startswith(f"{part}.")}
