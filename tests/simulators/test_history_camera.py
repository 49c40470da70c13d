"""Pictures of the simulated camera as a file to train on: what the camera itself would have shown, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from simulators.__main__ import main
from simulators.camera.frames import FrameMaker
from simulators.camera.incidents import IncidentKind, IncidentPlan
from simulators.camera.scene import Scene
from simulators.history.camera import camera_history
from simulators.history.recorded import BEGIN_MS

if TYPE_CHECKING:
    from pathlib import Path

HOUR_MS = 3_600_000


def test_a_picture_is_the_frame_of_its_time_made_small() -> None:
    watched = camera_history(7, 3, 600.0, hours="12:00-13:00")
    maker = FrameMaker(Scene(7, 320, 240, 86_400), IncidentPlan(7), 10)
    frame = maker.make(maker.latest(int(watched.at_ms[2]) / 1000))
    grey = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(watched.pictures[2], cv2.resize(grey, (96, 96), interpolation=cv2.INTER_AREA))
    assert watched.incidents == ()


def test_hours_pass_midnight_and_go_on_the_next_day() -> None:
    found = (camera_history(7, 5, 3600.0, hours="23:00-02:00", day=2).at_ms - BEGIN_MS) // HOUR_MS
    assert found.tolist() == [71, 72, 73, 95, 96]


def test_every_kind_of_incident_comes_in_turn() -> None:
    watched = camera_history(7, 400, 10.0, with_faults=True)
    assert {each.kind for each in watched.incidents} == set(IncidentKind)
    starts = [each.start_ms for each in watched.incidents]
    assert np.diff(starts).tolist() == [240_000] * (len(starts) - 1)
    assert {each.end_ms - each.start_ms for each in watched.incidents} == {40_000}


def test_the_command_writes_plain_arrays(tmp_path: Path) -> None:
    out = tmp_path / "gate.npz"
    assert main(["history", "camera", f"--out={out}", "--steps=2", "--hours=22:00-05:00", "--faults"]) == 0
    with np.load(out, allow_pickle=False) as found:
        assert found["pictures"].shape == (2, 96, 96)
        assert found["pictures"].dtype == np.uint8
        assert found["at_ms"].tolist() == [BEGIN_MS + 22 * HOUR_MS, BEGIN_MS + 22 * HOUR_MS + 60_000]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["camera", "--hours=22-5"], "--hours: '22-5': allowed is HH:MM-HH:MM"),
        (["camera", "--steps=300000"], "--steps: found 300000: allowed are 1 to 200000"),
        (["camera", "--from-day=-1"], "--from-day: found -1"),
        (["camera", "--day=60"], "--day is of the plant: camera has none"),
        (["weather", "--hours=22:00-05:00"], "--hours and --from-day are of the camera: weather has neither"),
    ],
)
def test_what_cannot_be_is_told(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", f"--out={tmp_path / 'x.npz'}", "--steps=1", *arguments]) == 2
    assert complaint in capsys.readouterr().err
