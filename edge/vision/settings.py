"""What the agent tells the process of a camera, as JSON in the first line of its stdin."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Polygon: TypeAlias = tuple[tuple[float, float], ...]
"""Corners (x, y) in shares of the picture's width and height."""


@dataclass(frozen=True, slots=True)
class AreaSettings:
    """When an area counts as in motion; the whole picture, where it has no polygon."""

    polygon: Polygon | None
    min_fraction: float
    min_s: float
    clear_s: float


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """The areas by name, the whole picture under the empty one; grey levels from which a pixel counts as changed."""

    areas: Mapping[str, AreaSettings]
    masks: tuple[Polygon, ...]
    min_change: float


@dataclass(frozen=True, slots=True)
class TamperSettings:
    """For how long a camera must look tampered with, or well again, before it is said."""

    after_s: float
    clear_s: float
    frozen_after_s: float
    relearn_s: float


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """Which incidents make a clip, of how many frames, and how large they may be."""

    triggers: tuple[str, ...]
    scene_score: float
    before: int
    during: int
    after: int
    spacing_s: float
    max_width: int
    quality: int
    max_frame_bytes: int
    max_event_bytes: int
    ring_bytes: int


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """When pictures are taken to learn from: `begin_s` and `span_s` are the hours of the day, seconds (UTC)."""

    every_s: float
    begin_s: int
    span_s: int
    while_motion: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """A camera: exactly one of url, device and file."""

    url: str | None
    device: str | None
    file: str | None
    username: str | None
    password: str | None
    loop: bool
    on_demand: bool
    keyframes_only: bool
    file_fps: float | None
    interval_s: float
    max_fps: float
    lost_after_s: float
    max_frame_bytes: int
    data_bytes: int
    """By how much the data segment may grow once everything is loaded."""
    cpu_share: float
    nice: int
    parent_pid: int
    motion: MotionSettings
    tamper: TamperSettings
    clips: ClipSettings | None
    learn: LearnSettings | None

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Settings:
        """What `to_json` made a line of."""
        found: dict[str, Any] = json.loads(line)
        motion, clips, learn = found["motion"], found["clips"], found["learn"]
        areas = {name: AreaSettings(**area) for name, area in motion["areas"].items()}
        parts = {
            "motion": MotionSettings(areas, tuple(motion["masks"]), motion["min_change"]),
            "tamper": TamperSettings(**found["tamper"]),
            "clips": None if clips is None else ClipSettings(**clips),
            "learn": None if learn is None else LearnSettings(**learn),
        }
        return cls(**found | parts)
