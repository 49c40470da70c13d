"""The configuration of a trained model of a camera's scene, and of what it is trained on."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Self

from pydantic import Field, model_validator

from contract.config import Config
from contract.scene import Hours  # noqa: TC001 - as above

_MIB = 1 << 20


class LearnConfig(Config):
    """Pictures of 96 x 96 that leave the device, for a model of the scene to be trained on. They are not incidents."""

    quiet_hours: Hours = Field(description="hours of the day (UTC) to take them in, such as 22:00-05:00")
    samples: int = Field(default=500, ge=20, le=20_000, description="how many; with the last a model is asked for")
    every_s: float = Field(default=60.0, ge=0.05, le=3600, description="seconds from one to the next")
    while_motion: bool = Field(
        default=False, description="take them in motion too, where something moves all the time; never when tampered"
    )
    max_hour_bytes: int = Field(default=_MIB, ge=8192, le=64 * _MIB, description="bytes sent in any hour")
    round: int = Field(default=1, ge=1, description="counted up, it gathers anew")


class SceneConfig(Config):
    """A model of what this camera usually sees, in place of the baseline behind scene_score."""

    model: Path | None = Field(
        default=None, description="directory of the trained model, watched; it may be empty until there is one"
    )
    learn: LearnConfig | None = Field(default=None, description="samples to train it on; none: no sample is sent")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.model is None and self.learn is None:
            raise ValueError("allowed is model, learn or both")
        return self

    def explain(self) -> list[str]:
        """What it takes, and what leaves the device."""
        lines = [] if self.model is None else [f"scene_score is told by the model in {self.model} in its hours"]
        if self.learn is not None:
            learn = self.learn
            when = f"one each {learn.every_s:g} s in {learn.quiet_hours} UTC"
            hour = f"at most {learn.max_hour_bytes / _MIB:g} MiB an hour"
            lines.append(f"{learn.samples} pictures of 96 x 96 leave the device to learn from, {when}, {hour}")
        return lines
