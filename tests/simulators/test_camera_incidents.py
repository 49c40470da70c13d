"""What somebody does to a camera, and to the light: each is seen in the picture, and can be asked for by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest

from simulators.__main__ import main
from simulators.camera.frames import FrameMaker
from simulators.camera.incidents import IncidentKind, IncidentPlan, PlannedIncident
from simulators.camera.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from simulators.camera.frames import Frame

NOON_S = 1_795_305_600 + 12 * 3600
FPS = 10
FIRST = NOON_S * FPS


def frame(kind: IncidentKind | None = None, after_s: float = 5.0) -> Frame:
    """The frame so long after an incident began, or that of the same moment without one."""
    plan = IncidentPlan(7)
    if kind is not None:
        plan.demand(PlannedIncident(1000 * NOON_S, 1000 * (NOON_S + 60), kind))
    return FrameMaker(Scene(7, 320, 240, 86_400), plan, FPS).make(FIRST + round(FPS * after_s))


def grey(shown: Frame) -> NDArray[np.float32]:
    decoded = cv2.imdecode(np.frombuffer(shown.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(decoded, np.float32)


def test_a_defocused_lens_keeps_the_light_and_loses_the_edges() -> None:
    clear, blurred = frame(), frame(IncidentKind.LENS_DEFOCUSED)
    assert blurred.brightness == pytest.approx(clear.brightness, rel=0.02)
    assert blurred.sharpness < 0.5 * clear.sharpness


def test_a_moved_camera_shows_the_same_yard_elsewhere() -> None:
    clear, moved = frame(), frame(IncidentKind.CAMERA_MOVED)
    assert moved.sharpness > 0.4 * clear.sharpness
    window = grey(clear)[30:105, 20:130]  # the building
    _, likeness, _, (left, top) = cv2.minMaxLoc(cv2.matchTemplate(grey(moved), window, cv2.TM_CCOEFF_NORMED))
    assert likeness > 0.6
    assert left - 20 > 30
    assert top - 30 > 5


def test_lights_go_out_within_two_seconds_and_the_picture_stays_the_same_but_for_that() -> None:
    levels = [frame(IncidentKind.LIGHTS_OUT, after_s).brightness for after_s in (0, 0.5, 1, 1.5, 2, 10)]
    assert levels[:5] == sorted(levels[:5], reverse=True)
    assert levels[4] == pytest.approx(0.3 * frame().brightness, rel=0.05)
    clear, dark = grey(frame()), grey(frame(IncidentKind.LIGHTS_OUT))
    assert np.corrcoef(clear.ravel(), dark.ravel())[0, 1] > 0.95


def test_a_container_stands_in_the_yard_and_does_not_move() -> None:
    changed = cv2.absdiff(grey(frame()), grey(frame(IncidentKind.REARRANGED))) > 25
    assert 0.05 < changed.mean() < 0.15
    early, late = (cv2.absdiff(grey(frame(None, s)), grey(frame(IncidentKind.REARRANGED, s))) > 25 for s in (1, 50))
    assert (early == late).mean() > 0.97


def test_incidents_may_come_together() -> None:
    plan = IncidentPlan(7)
    for kind in IncidentKind:
        plan.demand(PlannedIncident(1000 * NOON_S, 1000 * (NOON_S + 60), kind))
    assert len(FrameMaker(Scene(7, 320, 240, 86_400), plan, FPS).make(FIRST + 50).jpeg) > 500


def test_an_incident_by_hand(
    start_simulator: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = start_simulator(type="camera", name="gate")
    addresses = tmp_path / "by-hand.json"
    addresses.write_text(json.dumps({"gate": camera.addresses}))
    assert main(["fault", str(addresses), "gate", "camera_moved", "duration_s=30"]) == 0
    assert capsys.readouterr().out == "camera_moved\n"
    assert [found["kind"] for found in httpx.get(f"{camera.url}/incidents").json()] == ["camera_moved"]
    camera.wait_for("it is in the ledger", lambda c: [i.label for i in c.incidents()] == ["camera_moved"])
    assert main(["fault", str(addresses), "gate", "flood"]) == 1
    assert "allowed are intrusion, smoke, lens_covered, frozen" in capsys.readouterr().err
    assert main(["fault", str(addresses), "gate", "smoke", "duration_s=never"]) == 1
    assert "allowed are 0.1 to 3600" in capsys.readouterr().err
    camera.stop()
    assert main(["fault", str(addresses), "gate", "smoke"]) == 1
    assert f"no answer from {camera.url}" in capsys.readouterr().err
