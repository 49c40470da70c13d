from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from contract.config import ConfigError, parse_config
from simulators.camera import CameraConfig
from simulators.camera.frames import Frame, FrameMaker
from simulators.camera.incidents import IncidentKind, IncidentPlan, IncidentSchedule, PlannedIncident
from simulators.camera.scene import LANES, Scene, daylight, movers

NOON_S = 1_795_305_600 + 12 * 3600
FPS = 10
FIRST = NOON_S * FPS


def _maker(*incidents: PlannedIncident, seed: int = 7, day_s: float = 86_400) -> FrameMaker:
    plan = IncidentPlan(seed)
    for incident in incidents:
        plan.demand(incident)
    return FrameMaker(Scene(seed, 320, 240, day_s), plan, FPS)


def _incident(kind: IncidentKind, after_s: float = 0, duration_s: float = 30) -> PlannedIncident:
    from_ms = round(1000 * (NOON_S + after_s))
    return PlannedIncident(from_ms, from_ms + round(1000 * duration_s), kind)


def _grey(frame: Frame) -> np.ndarray[Any, Any]:
    decoded: np.ndarray[Any, Any] = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    return decoded


def test_the_same_seed_and_number_give_the_same_bytes_whatever_was_made_before() -> None:
    maker, again, other = _maker(), _maker(), _maker(seed=8)
    numbers = [FIRST, FIRST + 1, FIRST + 35, FIRST + 10**7]
    made = {number: maker.make(number).jpeg for number in numbers}
    assert {number: again.make(number).jpeg for number in reversed(numbers)} == made
    assert len(set(made.values())) == len(numbers)
    assert other.make(FIRST).jpeg != made[FIRST]


def test_brightness_and_sharpness_are_those_of_the_jpeg() -> None:
    for offset in (0, 17):
        frame = _maker().make(FIRST + offset)
        grey = _grey(frame)
        assert grey.shape == (240, 320)
        assert frame.brightness == float(np.mean(grey))
        assert frame.sharpness == float(np.var(cv2.Laplacian(grey, cv2.CV_64F)))
        assert frame.at_ms == 1000 * NOON_S + 100 * offset


def test_people_and_vehicles_come_and_go() -> None:
    seen = {lane_no: [bool(list(movers(7, lane_no, NOON_S + s))) for s in range(600)] for lane_no in range(len(LANES))}
    for present in seen.values():
        assert 0.05 < sum(present) / len(present) < 0.95
    maker = _maker()
    moved = [
        int(np.count_nonzero(cv2.absdiff(_grey(maker.make(FIRST + n)), _grey(maker.make(FIRST + n + 10))) > 40))
        for n in range(0, 600, 20)
    ]
    assert max(moved) > 100


def test_a_mover_crosses_without_jumps() -> None:
    places: dict[Any, list[float]] = {}
    for tick in range(600):
        for mover, place in movers(7, 2, NOON_S + tick / 10):
            places.setdefault(mover, []).append(place)
    assert places
    for mover, path in places.items():
        assert np.allclose(np.diff(path), mover.speed / 10)


def test_nights_are_dark() -> None:
    maker = _maker()
    day, night = maker.make(FIRST), maker.make(FIRST + 12 * 3600 * FPS)
    assert day.brightness > 3 * night.brightness
    levels = [daylight(second, 600) for second in range(600)]
    assert (levels[0], levels[300]) == (0, 1)
    assert max(abs(np.diff(levels))) < 0.03
    # A short day is as light at its own noon.
    assert _maker(day_s=600).make((NOON_S // 600 * 600 + 300) * FPS).brightness == pytest.approx(
        day.brightness, rel=0.1
    )


def test_smoke_veils_the_picture() -> None:
    number = FIRST + 12 * FPS
    clear, smoke = _maker().make(number), _maker(_incident(IncidentKind.SMOKE)).make(number)
    assert smoke.sharpness < 0.6 * clear.sharpness
    assert smoke.brightness > clear.brightness + 5


def test_a_covered_lens_is_dark_and_flat() -> None:
    clear, covered = _maker().make(FIRST), _maker(_incident(IncidentKind.LENS_COVERED)).make(FIRST)
    assert covered.brightness < 0.2 * clear.brightness
    assert covered.sharpness < 0.1 * clear.sharpness


def test_an_intruder_is_in_the_yard_and_moves() -> None:
    clear, maker = _maker(), _maker(_incident(IncidentKind.INTRUSION))
    for after_s in (2, 8, 20):
        number = FIRST + after_s * FPS
        changed = cv2.absdiff(_grey(clear.make(number)), _grey(maker.make(number))) > 30
        assert np.count_nonzero(changed) > 500
        assert np.count_nonzero(changed[160:]) > 0.3 * np.count_nonzero(changed)
    moved = cv2.absdiff(_grey(maker.make(FIRST + 80)), _grey(maker.make(FIRST + 90))) > 30
    assert np.count_nonzero(moved) > 300


def test_a_frozen_picture_keeps_its_last_bytes_while_time_goes_on() -> None:
    clear = _maker()
    maker = _maker(_incident(IncidentKind.FROZEN, after_s=1, duration_s=2))
    frames = [maker.make(FIRST + n) for n in range(40)]
    assert [frame.at_ms for frame in frames] == [1000 * NOON_S + 100 * n for n in range(40)]
    assert {frame.jpeg for frame in frames[10:30]} == {frames[9].jpeg}
    for n in (0, 9, 30, 39):
        assert frames[n].jpeg == clear.make(FIRST + n).jpeg


def test_a_picture_frozen_during_smoke_keeps_the_smoke() -> None:
    smoke, frozen = _incident(IncidentKind.SMOKE, duration_s=5), _incident(IncidentKind.FROZEN, after_s=4)
    assert _maker(smoke, frozen).make(FIRST + 80).jpeg == _maker(smoke).make(FIRST + 39).jpeg


def test_a_schedule_has_one_incident_in_each_period_and_replays() -> None:
    schedule = IncidentSchedule(every_s=60, duration_s=10)
    plan, again = IncidentPlan(7, [schedule]), IncidentPlan(7, [schedule])
    start_ms = 1000 * (NOON_S // 60 * 60)
    found = [plan.at(start_ms + 100 * tick) for tick in range(60 * 600)]
    assert [again.at(start_ms + 100 * tick) for tick in range(0, 60 * 600, 97)] == found[::97]
    incidents = sorted(set().union(*found))
    assert len(incidents) == 60
    assert {incident.kind for incident in incidents} == set(IncidentKind)
    for minute, incident in enumerate(incidents):
        assert start_ms + 60_000 * minute <= incident.from_ms < incident.to_ms <= start_ms + 60_000 * (minute + 1)
        assert incident.to_ms - incident.from_ms == 10_000
    assert len({incident.from_ms % 60_000 for incident in incidents}) > 50


def test_a_schedule_may_fix_kind_and_place() -> None:
    schedule = IncidentSchedule(kinds=(IncidentKind.SMOKE,), every_s=60, duration_s=10, at_s=20)
    start_ms = 1000 * (NOON_S // 60 * 60)
    smoke = PlannedIncident(start_ms + 20_000, start_ms + 30_000, IncidentKind.SMOKE)
    plan = IncidentPlan(7, [schedule])
    assert [plan.at(start_ms + s * 1000) for s in (19, 20, 29, 30)] == [set(), {smoke}, {smoke}, set()]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"width": 322}, "width"),
        ({"height": 241}, "height"),
        ({"fps": 0}, "fps"),
        ({"rtsp_port": 8554}, "rtsp is not true"),
        ({"incidents": [{"kinds": ["fire"]}]}, "incidents.0.kinds.0"),
        ({"incidents": [{"every_s": 10, "duration_s": 8, "at_s": 5}]}, "does not fit"),
    ],
)
def test_a_wrong_config_is_named(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_config({"type": "camera", "name": "gate", **keys}, CameraConfig, "scenario.yaml")
