"""The configuration of a camera."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator, model_validator

from contract.clips import CLIP, MAX_FRAMES, MAX_JPEG_BYTES
from contract.config import Config, Credentials
from contract.datatypes import DataType
from edge.lane import Lane
from edge.reading import MetricInfo
from edge.sources.base import SourceConfig
from edge.sources.camera.kept import Kept
from edge.sources.camera.learning import Learning
from edge.sources.camera.scene import SCENES, SceneModels, scene_metrics
from edge.sources.camera.scene_config import SceneConfig  # noqa: TC001 - pydantic reads the annotations at run time
from edge.sources.camera.source import opened

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from edge.sources.base import Clock, Place
    from edge.sources.camera.source import CameraSource

_SCHEMES = frozenset({"http", "https", "rtsp", "rtsps"})
_MIB = 1 << 20

Share = Annotated[float, Field(ge=0, le=1)]
Polygon = Annotated[tuple[tuple[Share, Share], ...], Field(min_length=3, max_length=50)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class MotionConfig(Config):
    """When pixels count as changed, and the picture or a zone as in motion."""

    min_change: float = Field(default=20.0, ge=1, le=255, description="grey levels from which a pixel has changed")
    min_fraction: Fraction = Field(
        default=0.005, description="fraction of the pixels from which it is in motion; it rests below half of that"
    )
    min_s: float = Field(default=1.0, ge=0, le=600, description="seconds of motion before motion_active is true")
    clear_s: float = Field(default=5.0, ge=0, le=600, description="seconds of rest before it is false again")


class ZoneConfig(Config):
    """A part of the picture whose motion is told by itself."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$", description="what its metrics begin with, unique")
    polygon: Polygon = Field(description="3 to 50 corners [x, y] in shares of width and height, 0 to 1")
    min_fraction: Fraction | None = Field(default=None, description="fraction of its own pixels; none: as in motion")
    min_s: float | None = Field(default=None, ge=0, le=600, description="seconds; none: as in motion")
    clear_s: float | None = Field(default=None, ge=0, le=600, description="seconds; none: as in motion")


class TamperConfig(Config):
    """When it is said that somebody has been at the camera."""

    after_s: float = Field(default=5.0, ge=0, le=600, description="seconds covered, blurred or moved before it is said")
    clear_s: float = Field(default=5.0, ge=0, le=600, description="seconds as usual before none is said")
    frozen_after_s: float = Field(default=15.0, ge=1, le=3600, description="seconds of the same picture before frozen")
    relearn_s: float = Field(
        default=900.0, ge=10, le=86_400, description="seconds after which a changed view is taken as the usual one"
    )


class ClipsConfig(Config):
    """Clips of incidents; without this part no picture leaves the device."""

    triggers: tuple[Literal["motion", "tamper", "scene"], ...] = Field(
        default=("motion", "tamper"), min_length=1, description="what makes a clip: any of motion, tamper, scene"
    )
    scene_score: float = Field(default=4.0, gt=0, le=50, description="scene_score from which a scene makes a clip")
    before: int = Field(default=2, ge=0, le=MAX_FRAMES // 4, description="frames from before the incident")
    during: int = Field(default=3, ge=1, le=MAX_FRAMES // 4, description="frames from its beginning on")
    after: int = Field(default=1, ge=0, le=MAX_FRAMES // 4, description="frames once it is over, or 60 s old")
    spacing_s: float = Field(default=1.0, ge=0.05, le=600, description="seconds from one frame to the next")
    max_width: int = Field(default=640, ge=32, le=1920, description="pixels; a wider frame is made smaller")
    quality: int = Field(default=75, ge=10, le=95, description="JPEG quality, lowered where a frame is too large")
    max_frame_bytes: int = Field(default=65_536, ge=2048, le=MAX_JPEG_BYTES, description="bytes of one frame")
    max_event_bytes: int = Field(default=400_000, ge=2048, le=64 * _MIB, description="bytes of one event's frames")
    max_hour_bytes: int = Field(default=4 * _MIB, ge=2048, le=1024 * _MIB, description="bytes sent in any hour")
    ring_bytes: int = Field(
        default=8 * _MIB, ge=65_536, le=256 * _MIB, description="bytes held in memory for the frames before"
    )

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if not self.max_frame_bytes <= self.max_event_bytes <= self.max_hour_bytes:
            raise ValueError("allowed is max_frame_bytes <= max_event_bytes <= max_hour_bytes")
        return self


class CameraConfig(SourceConfig, Credentials):
    """One camera."""

    type: Literal["camera"] = Field(description="kind of source")
    url: str | None = Field(
        default=None, description="MJPEG over http(s)://, or rtsp(s)://; username and password stand apart"
    )
    device: Path | None = Field(default=None, description="a USB camera: the path of its V4L2 device")
    file: Path | None = Field(default=None, description="a recording: a video, or a directory of JPEGs")
    file_fps: float | None = Field(
        default=None, gt=0, le=240, description="frames a second of the recording; none: its own, JPEGs one an interval"
    )
    playback: Literal["rate", "polled"] = Field(
        default="rate", description="a recording is played at its rate, or gives one frame for each poll"
    )
    loop: bool = Field(default=False, description="whether a recording begins again at its end")
    max_frame_bytes: int = Field(
        default=4 * _MIB, ge=1024, le=64 * _MIB, description="bytes of one JPEG; more is a fault"
    )
    lost_after_s: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="seconds without a frame; without it the greater of 3 intervals and 5 s",
    )
    max_fps: float | None = Field(
        default=None, gt=0, le=60, description="frames a second that are looked at; none: one an interval"
    )
    keyframes_only: bool = Field(
        default=False, description="of an RTSP stream decode key frames alone; they come every few seconds"
    )
    max_memory_mb: int = Field(default=256, ge=96, le=8192, description="MiB resident; a process with more is killed")
    cpu_percent: float = Field(
        default=50.0, ge=1, le=100, description="percent of one core; frames that need more are left out"
    )
    nice: int = Field(default=5, ge=0, le=19, description="how far its process stands back, as nice(1) has it")
    motion: MotionConfig = Field(default=MotionConfig(), description="what counts as motion")
    zones: tuple[ZoneConfig, ...] = Field(default=(), max_length=16, description="parts told by themselves, up to 16")
    masks: tuple[Polygon, ...] = Field(
        default=(), max_length=16, description="polygons that are ignored: trees, a street, the camera's own clock"
    )
    tamper: TamperConfig = Field(default=TamperConfig(), description="what counts as tampering")
    clips: ClipsConfig | None = Field(
        default=None, description="clips of incidents; none: no picture of any leaves the device"
    )
    scene: SceneConfig | None = Field(
        default=None, description="a trained model of its scene, and samples to train it on; none: the baseline scores"
    )

    # Here, because a camera that is opened again has no new hour by that, nor a new model.
    _kept: Kept = PrivateAttr(default_factory=Kept)

    @field_validator("url")
    @classmethod
    def _url_is_of_a_stream(cls, url: str | None) -> str | None:
        if url is None:
            return None
        address = urlsplit(url)
        if address.scheme not in _SCHEMES or not address.hostname:
            raise ValueError(f"allowed is SCHEME://HOST[:PORT]/PATH, SCHEME one of {', '.join(sorted(_SCHEMES))}")
        if "@" in address.netloc:
            raise ValueError("user and password do not stand in the URL: see username, password_env, password_file")
        return url

    @field_validator("zones")
    @classmethod
    def _zones_are_unique(cls, zones: tuple[ZoneConfig, ...]) -> tuple[ZoneConfig, ...]:
        names = [zone.name for zone in zones]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"zone names must be unique, given more than once: {', '.join(sorted(twice))}")
        return zones

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ("url", "device", "file") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of url, device and file is needed, given: {', '.join(given) or 'none'}")
        if self.file is None and (self.loop or self.playback != "rate" or self.file_fps is not None):
            raise ValueError("loop, playback and file_fps go with file only")
        if self.url is None and self.username is not None:
            raise ValueError("username goes with url only")
        if self.keyframes_only and not (self.url or "").startswith("rtsp"):
            raise ValueError("keyframes_only goes with an rtsp:// or rtsps:// url only")
        return self

    @property
    def origin(self) -> str:
        """What the camera is called in messages: without the query, in which some want the password."""
        return str((self.url and self.url.partition("?")[0]) or self.device or self.file)

    @property
    def kept(self) -> Kept:
        """What outlasts its process, however often it is opened."""
        return self._kept

    def settle(self, place: Place) -> None:
        """Where its model and what it has learnt are kept."""
        self._kept.place = place

    @cached_property
    def learning(self) -> Learning | None:
        """The samples that it gathers; None where it gathers none."""
        if self.scene is None or self.scene.learn is None:
            return None
        place = self._kept.place
        file = None if place is None else place.state_dir / SCENES / f"{self.name}.json"
        return Learning(self.scene.learn, self.masks, file)

    @cached_property
    def scene_models(self) -> SceneModels | None:
        """The trained model of its scene; None where there is to be none."""
        if self.scene is None or self.scene.model is None:
            return None
        return SceneModels(self.scene.model, self.name, self._kept.place)

    @property
    def patience_s(self) -> float:
        """Seconds without a frame after which the camera is lost."""
        return self.lost_after_s or max(3 * self.interval_s, 5.0)

    def metrics(self) -> list[MetricInfo]:
        """What is seen, of the whole picture and of each zone."""
        found = [
            MetricInfo("brightness", DataType.DOUBLE, None, "mean grey level, 0 to 255"),
            MetricInfo("sharpness", DataType.DOUBLE, None, "variance of the Laplacian of the grey image"),
            *_motion_metrics("", "the picture"),
        ]
        for zone in self.zones:
            found += _motion_metrics(f"{zone.name}/", f"zone {zone.name}")
        found += [
            MetricInfo("scene_score", DataType.DOUBLE, None, "how unusual the scene is; 0 is as usual"),
            MetricInfo(
                "tamper",
                DataType.STRING,
                None,
                "none, covered, blurred, moved, frozen or lost",
                Lane.ALARM,
                when_lost="lost",
            ),
        ]
        if self.scene is not None and self.scene.model is not None:
            found += scene_metrics()
        if self.clips is not None or (self.scene is not None and self.scene.learn is not None):
            found.append(MetricInfo(CLIP, DataType.BYTES, None, "a JPEG of an incident, or to learn from", Lane.IMAGE))
        return found

    def explain(self) -> list[str]:
        """What watching this camera takes, and what leaves the device."""
        looked = f"{self.max_fps:g} frames a second" if self.max_fps else f"one frame each {self.interval_s:g} s"
        lines = [
            f"measures one frame each {self.interval_s:g} s and looks at {looked}",
            f"its process takes at most {self.cpu_percent:g} % of one core and {self.max_memory_mb} MiB",
        ]
        if self.clips is not None:
            hour = f"{self.clips.max_hour_bytes / _MIB:g} MiB an hour"
            lines.append(f"clips of {', '.join(self.clips.triggers)} leave the device, at most {hour}")
        if self.scene is not None:
            lines += self.scene.explain()
        leaves = self.clips is not None or (self.scene is not None and self.scene.learn is not None)
        return lines if leaves else [*lines, "no picture leaves the device (no clips)"]

    def open(self, now_ms: Clock) -> AbstractAsyncContextManager[CameraSource]:
        """The source with its process running; raises SourceError."""
        return opened(self, now_ms)


def _motion_metrics(prefix: str, of_what: str) -> list[MetricInfo]:
    changed = f"fraction of {of_what} that changed, 0 to 1, the most since the reading before"
    return [
        MetricInfo(f"{prefix}motion", DataType.DOUBLE, None, changed),
        MetricInfo(f"{prefix}motion_active", DataType.BOOLEAN, None, f"whether {of_what} is in motion"),
    ]
