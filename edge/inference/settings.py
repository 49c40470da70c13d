"""What the agent tells the models' process of a model, as JSON."""

from __future__ import annotations

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
class ModelSettings:
    """A model: lists are by input, and those of `out_` by number of the result.

    `hold_steps` is how many steps a value stands for those that have none; `rows` is how many steps the agent sends,
    the window's at their end and before them as many as a value may stand; `out_since` is which input's last value a
    number of the result is the change from, -1 where it is none.
    """

    key: str
    directory: str
    forms: tuple[FormSettings, ...]
    length: int
    rows: int
    inputs: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    hold_steps: tuple[int, ...]
    max_bad_share: float
    output: str
    out_shape: tuple[int, ...]
    out_mean: tuple[float, ...]
    out_scale: tuple[float, ...]
    out_since: tuple[int, ...]

    @property
    def channels(self) -> int:
        """How many inputs it has."""
        return len(self.inputs)

    @property
    def results(self) -> int:
        """How many numbers a result has: those of a forecast, or the score and with it each input's contribution."""
        if self.output == FORECAST:
            return len(self.out_mean)
        return 1 + self.channels if self.output == RECONSTRUCTION else 1

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> ModelSettings:
        """From JSON, in which a tuple is a list."""
        plain: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in document.items()}
        plain["forms"] = tuple(FormSettings(**form) for form in document["forms"])
        return cls(**plain)
