"""The picture: a yard behind a fence, a road beyond it, day and night, people and vehicles.

A frame is a pure function of seed, size, frame time and the incidents under way: the same ones give the same pixels.
All places are in shares of the picture's width and height.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import cv2
import numpy as np

from simulators.camera.incidents import IncidentKind
from simulators.camera.lens import through_lens
from simulators.camera.movers import LANES, movers

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from simulators.camera.incidents import PlannedIncident
    from simulators.camera.movers import Colour, Lane, Mover

Picture: TypeAlias = "NDArray[np.uint8]"
Point: TypeAlias = tuple[int, int]

_PICTURE_STREAM: Final = 1
_NOISE_FRAMES: Final = 16
_NOISE_SCALE: Final = 0.09
_NIGHT: Final = 0.16
_HORIZON: Final = 0.34
_FENCE_TOP: Final = 0.50
_FENCE_FOOT: Final = 0.66


def daylight(at_s: float, day_s: float) -> float:
    """From 0 at night to 1 by day, with dusk and dawn; the day starts at midnight."""
    sun = -math.cos(2 * math.pi * at_s / day_s)
    lit = min(1.0, max(0.0, (sun + 0.25) / 0.6))
    return lit * lit * (3 - 2 * lit)


class Scene:
    """A camera's view; `render` gives its frames as BGR arrays of (height, width, 3), uint8."""

    def __init__(self, seed: int, width: int, height: int, day_s: float) -> None:
        self._seed = seed
        self._width, self._height = width, height
        self._day_s = day_s
        rng = np.random.default_rng([seed, _PICTURE_STREAM])
        self._noise = [self._grain(rng) for _ in range(_NOISE_FRAMES)]
        self._smoke_texture = self._clouds(rng)
        self._background = self._yard(rng)
        self._fence = self._fence_picture()
        self._fence_mask: Picture = np.where(self._fence.any(axis=2), 255, 0).astype(np.uint8)
        self._lamp = self._lamp_light()

    def render(self, frame_no: int, at_s: float, incidents: Collection[PlannedIncident] = ()) -> Picture:
        """The frame of a number and UTC time; FROZEN is for the caller, who knows which frame stays."""
        starts_s = {incident.kind: incident.from_ms / 1000 for incident in incidents}
        picture = self._background.copy()
        for lane_no in range(len(LANES)):
            self._draw_lane(picture, lane_no, at_s)
        cv2.copyTo(self._fence, self._fence_mask, picture)
        if IncidentKind.REARRANGED in starts_s:
            self._draw_container(picture)
        if IncidentKind.INTRUSION in starts_s:
            self._draw_intruder(picture, at_s - starts_s[IncidentKind.INTRUSION])
        if IncidentKind.SMOKE in starts_s:
            picture = self._with_smoke(picture, at_s - starts_s[IncidentKind.SMOKE])
        picture = self._lit(picture, daylight(at_s, self._day_s))
        picture = through_lens(picture, at_s, starts_s)
        # Knuth's multiplicative hash, by its upper bits: whoever looks at every second, fifth or tenth frame never sees
        # the same noise twice running, which would be a frozen picture.
        noise = self._noise[(frame_no * 2_654_435_761 & 0xFFFF_FFFF) * _NOISE_FRAMES >> 32]
        return _pixels(cv2.addWeighted(picture, 1.0, noise, _NOISE_SCALE, -128 * _NOISE_SCALE))

    def _at(self, x: float, y: float) -> Point:
        return round(x * self._width), round(y * self._height)

    def _grain(self, rng: np.random.Generator) -> Picture:
        grain = rng.normal(128, 30, (self._height, self._width, 1)) + rng.normal(0, 8, (self._height, self._width, 3))
        return _pixels(np.clip(grain, 0, 255).astype(np.uint8))

    def _clouds(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Soft blobs from 0 to 1, (height, 2 * width), to be moved along."""
        coarse = rng.uniform(0, 1, (7, 16)).astype(np.float32)
        fine = rng.uniform(0, 1, (20, 50)).astype(np.float32)
        size = (2 * self._width, self._height)
        clouds = 0.7 * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        clouds += 0.3 * cv2.resize(fine, size, interpolation=cv2.INTER_CUBIC)
        np.clip(clouds, 0, 1, out=clouds)
        return clouds.astype(np.float32)

    def _yard(self, rng: np.random.Generator) -> Picture:
        rows = np.linspace(0, 1, self._height)[:, None, None]
        sky = np.array([205, 180, 150]) + rows * np.array([60, 90, 150])
        ground = np.array([95, 112, 120]) + (rows - _HORIZON) * np.array([40, 45, 50])
        texture = cv2.GaussianBlur(rng.normal(0, 26, (self._height, self._width)), (0, 0), 0.9)[:, :, None]
        picture = np.where(rows < _HORIZON, sky, ground + texture)
        yard: Picture = np.clip(np.broadcast_to(picture, (self._height, self._width, 3)), 0, 255).astype(np.uint8)
        self._draw_buildings(yard)
        cv2.rectangle(yard, self._at(0, 0.43), self._at(1, 0.535), (78, 74, 72), -1)
        for dash in range(9):
            cv2.line(yard, self._at(dash / 8, 0.482), self._at(dash / 8 + 0.05, 0.482), (170, 180, 185), 1)
        return yard

    def _draw_buildings(self, yard: Picture) -> None:
        cv2.rectangle(yard, self._at(0.05, 0.15), self._at(0.42, 0.43), (118, 132, 150), -1)
        cv2.rectangle(yard, self._at(0.05, 0.13), self._at(0.42, 0.16), (70, 76, 90), -1)
        cv2.rectangle(yard, self._at(0.30, 0.26), self._at(0.38, 0.43), (85, 80, 76), -1)
        for window in range(4):
            left = 0.075 + 0.052 * window
            cv2.rectangle(yard, self._at(left, 0.22), self._at(left + 0.032, 0.29), (150, 120, 84), -1)
        # Two storage tanks, lit from the left.
        for left in (0.60, 0.75):
            for strip in range(12):
                grey = round(190 - 9 * strip)
                x = left + 0.01 * strip
                cv2.rectangle(yard, self._at(x, 0.18), self._at(x + 0.01, 0.43), (grey, grey, grey - 6), -1)
            cv2.ellipse(yard, self._at(left + 0.06, 0.18), self._at(0.065, 0.02), 0, 0, 360, (175, 178, 180), -1)

    def _fence_picture(self) -> Picture:
        fence: Picture = np.zeros((self._height, self._width, 3), np.uint8)
        for wire in range(6):
            y = _FENCE_TOP + (_FENCE_FOOT - _FENCE_TOP) * wire / 6
            cv2.line(fence, self._at(0, y), self._at(1, y), (118, 122, 124), 1)
        for post in range(13):
            x = post / 12
            cv2.line(fence, self._at(x, _FENCE_TOP - 0.02), self._at(x, _FENCE_FOOT), (66, 70, 74), 2)
        return fence

    def _lamp_light(self) -> Picture:
        """What the lamps make of each pixel at night, 0 to 255."""
        y, x = np.mgrid[0 : self._height, 0 : self._width]
        pools = ((0.22, 0.52, 0.16), (0.78, 0.56, 0.17), (0.50, 0.82, 0.22))
        light = np.full((self._height, self._width), _NIGHT)
        for across, down, reach in pools:
            distance = ((x / self._width - across) / reach) ** 2 + ((y / self._height - down) / (0.8 * reach)) ** 2
            light += 0.5 * np.exp(-distance)
        warm = light[:, :, None] * np.array([0.72, 0.9, 1.0])
        return _pixels(np.clip(255 * warm, 0, 255).astype(np.uint8))

    def _lit(self, picture: Picture, day: float) -> Picture:
        if day >= 1:
            return picture
        night = cv2.multiply(picture, self._lamp, scale=1 / 255)
        return _pixels(cv2.addWeighted(picture, day, night, 1 - day, 0))

    def _draw_lane(self, picture: Picture, lane_no: int, at_s: float) -> None:
        lane = LANES[lane_no]
        for mover, x in movers(self._seed, lane_no, at_s):
            if lane.vehicles:
                self._draw_vehicle(picture, mover, x, lane)
            else:
                self._draw_person(picture, (x, lane.foot), lane.size * mover.scale, mover.colour, x / 0.03)

    def _draw_vehicle(self, picture: Picture, mover: Mover, x: float, lane: Lane) -> None:
        tall, foot = lane.size * mover.scale, lane.foot
        half = 1.05 * tall
        cabin = math.copysign(0.25 * half, mover.speed)
        self._shadow(picture, (x, foot), (1.15 * half, 0.018))
        cv2.rectangle(
            picture, self._at(x - half, foot - 0.62 * tall), self._at(x + half, foot - 0.12 * tall), mover.colour, -1
        )
        roof = _shaded(mover.colour, 1.2)
        cv2.rectangle(
            picture,
            self._at(x - 0.55 * half - cabin, foot - tall),
            self._at(x + 0.55 * half - cabin, foot - 0.6 * tall),
            roof,
            -1,
        )
        glass = (
            self._at(x - 0.42 * half - cabin, foot - 0.92 * tall),
            self._at(x + 0.42 * half - cabin, foot - 0.65 * tall),
        )
        cv2.rectangle(picture, *glass, (120, 100, 80), -1)
        for wheel in (-0.6, 0.6):
            centre = self._at(x + wheel * half, foot - 0.1 * tall)
            cv2.circle(picture, centre, max(2, round(0.16 * tall * self._height)), (26, 26, 28), -1, cv2.LINE_AA)
        lamp = self._at(x + math.copysign(half, mover.speed), foot - 0.4 * tall)
        cv2.circle(picture, lamp, max(1, round(0.07 * tall * self._height)), (215, 245, 255), -1)

    def _draw_person(
        self, picture: Picture, foot: tuple[float, float], tall: float, colour: Colour, stride: float
    ) -> None:
        x, y = foot
        thick = max(1, round(0.09 * tall * self._height))
        hip, neck = self._at(x, y - 0.46 * tall), self._at(x, y - 0.80 * tall)
        self._shadow(picture, foot, (0.16 * tall, 0.03 * tall))
        for phase in (0.0, math.pi):
            swing = 0.13 * tall * math.sin(stride + phase)
            cv2.line(picture, hip, self._at(x + swing, y), _shaded(colour, 0.45), thick, cv2.LINE_AA)
            cv2.line(
                picture, neck, self._at(x - 0.8 * swing, y - 0.45 * tall), _shaded(colour, 0.8), thick, cv2.LINE_AA
            )
        cv2.line(picture, hip, neck, colour, 2 * thick, cv2.LINE_AA)
        head = self._at(x, y - 0.90 * tall)
        cv2.circle(picture, head, max(1, round(0.085 * tall * self._height)), (125, 155, 195), -1, cv2.LINE_AA)

    def _shadow(self, picture: Picture, centre: tuple[float, float], radii: tuple[float, float]) -> None:
        cv2.ellipse(picture, self._at(*centre), self._at(*radii), 0, 0, 360, (52, 56, 60), -1, cv2.LINE_AA)

    def _draw_intruder(self, picture: Picture, since_s: float) -> None:
        """Someone inside the fence who comes from it towards the camera and walks up and down."""
        near = min(1.0, since_s / 6)
        foot = (0.5 + 0.36 * math.sin(0.45 * since_s), 0.70 + 0.24 * near)
        self._draw_person(picture, foot, 0.26 + 0.26 * near, (40, 36, 44), 6 * since_s)

    def _draw_container(self, picture: Picture) -> None:
        """Something large that nobody expects: it stands in the yard, and does not move."""
        cv2.rectangle(picture, self._at(0.56, 0.58), self._at(0.93, 0.84), (60, 62, 150), -1)
        for rib in range(13):
            x = 0.575 + 0.029 * rib
            cv2.line(picture, self._at(x, 0.60), self._at(x, 0.82), (44, 46, 118), 1)

    def _with_smoke(self, picture: Picture, since_s: float) -> Picture:
        """Smoke that wells up from the building and drifts over the yard, thickest after ten seconds."""
        thick = min(1.0, 0.25 + since_s / 10)
        drift = round(0.05 * since_s * self._width) % self._width
        texture = self._smoke_texture[:, drift : drift + self._width]
        y, x = np.ogrid[0 : self._height, 0 : self._width]
        reach = 0.15 + 0.5 * thick
        plume = np.exp(-(((x / self._width - 0.4) / reach) ** 2) - ((y / self._height - 0.4) / (0.9 * reach)) ** 2)
        opacity = np.clip(1.5 * thick * plume * texture, 0, 0.93)[:, :, None]
        return _pixels((picture * (1 - opacity) + 168 * opacity).astype(np.uint8))


def _shaded(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(255, round(part * factor)) for part in colour)
    return blue, green, red


def _pixels(array: Any) -> Picture:  # noqa: ANN401 - OpenCV's stubs give any numeric array
    """Tell the type checker what OpenCV makes of uint8: uint8."""
    picture: Picture = array
    return picture
