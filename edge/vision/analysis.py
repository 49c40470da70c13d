"""All that is seen in a camera's frames, one after another: readings for the agent, and incidents for clips. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from edge.vision.motion import MotionDetector, active_areas
from edge.vision.picture import brightness, sharpness
from edge.vision.sampling import Sampler
from edge.vision.scene import SceneWatch
from edge.vision.tamper import Tamper, TamperWatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.vision.motion import AreaMotion
    from edge.vision.picture import Grey
    from edge.vision.scene import SceneLook
    from edge.vision.settings import Settings

Values: TypeAlias = dict[str, float | bool | str | None]

_SCENE_FRAMES: Final = 2
_AGAIN_S: Final = 60.0
# A camera's clock that jumps is no long time.
_LONGEST_STEP_S: Final = 60.0


class Elapsed:
    """Seconds from frame to frame, made to run forwards at a walking pace whatever the camera's clock does."""

    def __init__(self) -> None:
        self._last_ms: float | None = None
        self._at_s = 0.0

    def at(self, time_ms: float) -> float:
        """The time of a frame since the first."""
        step_s = 0.0 if self._last_ms is None else (time_ms - self._last_ms) / 1000
        self._last_ms = time_ms
        self._at_s += min(max(step_s, 0.0), _LONGEST_STEP_S)
        return self._at_s


class Analysis:
    """Looks at frames in their order; times are seconds of a clock that does not run backwards."""

    def __init__(self, settings: Settings) -> None:
        masks = settings.motion.masks
        self._clips = settings.clips
        self._motion = MotionDetector(settings.motion)
        self._tamper = TamperWatch(settings.tamper, masks)
        self.scene = SceneWatch(masks)
        self.sampler = Sampler(settings.learn, masks) if settings.learn else None
        self._active: dict[str, bool] = {}
        self._told: dict[str, bool | str | None] = {}
        self._told_s: dict[str, float] = {}
        self._most: dict[str, float] = {}
        self._scores = 0
        self._incidents: list[str] = []

    @property
    def incidents(self) -> list[str]:
        """What a clip is to be made of, as of the last frame: tamper first, then motion, then a strange scene."""
        return list(self._incidents)

    def look(self, grey: Grey, at_s: float, *, is_kept: bool, utc_s: float = 0.0) -> Values:
        """What there is to tell of a frame: of a kept one all, of one between only what became different.

        `utc_s` is the time of day (unix seconds), which may jump.
        """
        motion = self._motion.look(grey, at_s)
        tamper = self._tamper.look(grey, at_s)
        scene = self.scene.look(grey, at_s, utc_s)
        self._incidents = self._incidents_in(motion, tamper, scene)
        if self.sampler is not None:
            self.sampler.note(motion, tamper)
        values: Values = {}
        if is_kept:
            values |= {"brightness": brightness(grey), "sharpness": sharpness(grey)}
            if scene.score is not None:
                values["scene_score"] = scene.score
        values |= self._of_motion(motion, is_kept=is_kept)
        if scene.is_anomaly is not None or "scene_anomaly" in self._told:
            values |= self._seldom("scene_anomaly", scene.is_anomaly, at_s)
        return values | self._seldom("tamper", str(tamper), at_s)

    def _of_motion(self, motion: Mapping[str, AreaMotion] | None, *, is_kept: bool) -> Values:
        values: Values = {}
        for name, area in (motion or {}).items():
            prefix = f"{name}/" if name else ""
            # A kept frame stands for those before it that were only looked at.
            self._most[name] = max(area.fraction, self._most.get(name, 0.0))
            if is_kept:
                values[f"{prefix}motion"] = self._most.pop(name)
            if is_kept or area.active != self._active.get(name, False):
                values[f"{prefix}motion_active"] = self._active[name] = area.active
        return values

    def _seldom(self, metric: str, value: bool | str | None, at_s: float) -> Values:  # noqa: FBT001 - it is told
        """An alarm: told when it changes, and each minute for whoever came late; None: it is not known any more."""
        told_at_s = self._told_s.get(metric)
        if told_at_s is not None and self._told[metric] == value and at_s - told_at_s < _AGAIN_S:
            return {}
        self._told[metric], self._told_s[metric] = value, at_s
        return {metric: value}

    def _incidents_in(self, motion: Mapping[str, AreaMotion] | None, tamper: Tamper, scene: SceneLook) -> list[str]:
        if self._clips is None:
            return []
        found: list[str] = []
        if "tamper" in self._clips.triggers and tamper is not Tamper.NONE:
            found.append(str(tamper))
        if "motion" in self._clips.triggers:
            found += [f"{name}/motion" if name else "motion" for name in active_areas(motion)]
        is_strange = scene.is_anomaly
        if is_strange is None:
            is_strange = scene.score is not None and scene.score >= self._clips.scene_score
        self._scores = self._scores + 1 if is_strange else 0
        if "scene" in self._clips.triggers and self._scores >= _SCENE_FRAMES:
            found.append("scene")
        return found
