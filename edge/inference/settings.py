"""What the agent tells the models' process of a model, as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

# What is known of a step.
NOTHING: Final = 0
GOOD: Final = 1
BAD: Final = 2

FORECAST: Final = "forecast"
RECONSTRUCTION: Final = "reconstruction"
DIRECT: Final = "direct"


@dataclass(frozen=True, slots=True)
class FormSettings:
    """A file that may be loaded."""

    form: str
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """A column of what the model sees: what is computed, of which inputs by index, and what is 0 and 1 to the model."""

    name: str
    transform: str
    of: tuple[int, ...]
    mean: float
    scale: float


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """What is forecast: what 0 and 1 of the output are, and by the last value of which input it is told, and how."""

    mean: float
    scale: float
    relative: str | None
    of: int


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A model: `inputs` and `hold_steps` are by input, the steps that each one's value stands for those without any.

    `rows` is how many steps the agent sends: the window's at their end, before them the `reach` that features look
    back, and before those as many as a value may stand.
    """

    key: str
    directory: str
    forms: tuple[FormSettings, ...]
    length: int
    reach: int
    rows: int
    step_ms: int
    inputs: tuple[str, ...]
    hold_steps: tuple[int, ...]
    max_bad_share: float
    features: tuple[FeatureSettings, ...]
    output: str
    out_shape: tuple[int, ...]
    targets: tuple[TargetSettings, ...]

    @property
    def channels(self) -> int:
        """How many columns the model sees."""
        return len(self.features)

    @property
    def results(self) -> int:
        """How many numbers a result has: those of a forecast; or the score, and each feature's contribution to it."""
        if self.output == FORECAST:
            return math.prod(self.out_shape)
        return 1 + self.channels if self.output == RECONSTRUCTION else 1

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> ModelSettings:
        """From JSON, in which a tuple is a list."""
        plain = _with_tuples(document)
        plain["forms"] = tuple(FormSettings(**form) for form in document["forms"])
        plain["features"] = tuple(FeatureSettings(**_with_tuples(feature)) for feature in document["features"])
        plain["targets"] = tuple(TargetSettings(**target) for target in document["targets"])
        return cls(**plain)


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """A model of a scene: `begin_s` and `span_s` are its hours of the day, seconds (UTC); `floor` is the score's."""

    key: str
    directory: str
    forms: tuple[FormSettings, ...]
    side: int
    usual: float
    floor: float
    threshold: float
    clear: float
    begin_s: int
    span_s: int

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> SceneSettings:
        """From JSON, in which a tuple is a list."""
        return cls(**document | {"forms": tuple(FormSettings(**form) for form in document["forms"])})


def _with_tuples(document: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(each) if isinstance(each, list) else each for key, each in document.items()}
