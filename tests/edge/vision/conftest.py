"""The simulated yard, frame by frame and faster than real time, and what a camera is told by default."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edge.sources import CameraConfig
from edge.sources.camera.child import settings_of
from simulators.camera.frames import FrameMaker
from simulators.camera.incidents import IncidentKind, IncidentPlan, PlannedIncident
from simulators.camera.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.vision.picture import Grey
    from edge.vision.settings import Settings

MIDNIGHT_S = 1_795_305_600
SIM_FPS = 10


@pytest.fixture(scope="session")
def yard() -> Callable[..., Iterator[tuple[float, Grey]]]:
    """Frames of the simulated yard as (seconds since the incident begins, grey picture)."""

    def frames(
        kind: str | None = None, *, hour: float = 12, seconds: tuple[float, float, float], **scene: Any
    ) -> Iterator[tuple[float, Grey]]:
        """`seconds` are those before, during and after the incident."""
        before, during, after = seconds
        options = {"seed": 7, "width": 320, "height": 240, "day_s": 86_400.0, "fps": 2} | scene
        fps = options.pop("fps")
        start_s = MIDNIGHT_S + 3600 * hour
        plan = IncidentPlan(7)
        if kind is not None:
            from_ms = round(1000 * (start_s + before))
            plan.demand(PlannedIncident(from_ms, from_ms + round(1000 * during), IncidentKind(kind)))
        maker = FrameMaker(Scene(**options), plan, SIM_FPS)
        for n in range(round((before + during + after) * fps)):
            number = round(start_s * SIM_FPS + n * SIM_FPS / fps)
            jpeg = np.frombuffer(maker.make(number).jpeg, np.uint8)
            grey = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE), np.uint8)
            yield number / SIM_FPS - start_s - before, grey

    return frames


@pytest.fixture(scope="session")
def told() -> Callable[..., Settings]:
    """The settings of a camera that is configured so."""

    def make(**options: Any) -> Settings:
        document = {"type": "camera", "name": "gate", "interval_s": 1, "url": "http://camera/x"} | options
        return replace(settings_of(CameraConfig.model_validate(document), None), parent_pid=0)

    return make
