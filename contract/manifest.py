"""A model's manifest: what goes in, what comes out, and which files it is; beside the files as `manifest.json`.

Whoever runs a model, on the device or in the cloud, makes its windows by these rules:

- Steps are `step_s` long and begin at whole multiples of it in UTC. A reading belongs to the step that its `sampled_at`
  lies in; an input's value there is the last, mean, least or greatest of its good and finite readings (`resample`).
- With `steps: clock` all steps count. With `present` those without any reading of any input are left out, as when a
  market is closed; a step more than `max_pause_s` after the one before ends what is known.
- A step without a good reading takes the value of the step before while that is at most `hold_s` old, unless a reading
  in it was of bad quality. Else it is *missing*. A window with more than `max_bad_share` of its values missing, or an
  input without any, has no result. In others what is missing is the value before it, or, at the beginning, after it.
- A *feature* is a column of what the model sees, computed from inputs, step by step. Where one looks at the step before
  (`change`, `log_change`), the rules above are for one step more than `length`. One that is not finite, such as the
  logarithm of what is not positive, means no result.
- A model of runtime `tflite` takes `(feature - mean) / scale` as float32 [1, length, features], oldest step first, and
  gives targets in the same way. One of runtime `tensorflow` has the scaling in it: it takes features [windows, length,
  features], and gives targets [windows, targets, horizons, quantiles], or the features again, all as they are.
- The quantiles of a target and horizon are then put in rising order (Chernozhukov et al. 2010: that makes none worse),
  and what is told relative to an input's last value becomes a value.
- A window's time, which is that of its result, is the end of its last step.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias, get_args

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from contract.card import ModelCard, kind_of, parse_document, unique
from contract.config import Config, ConfigError, parse_config

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_INPUTS: Final = 64
MAX_CELLS: Final = 65_536
MAX_OUTPUTS: Final = 1024

# What a result's metrics are called, beside those of a forecast.
SCORE: Final = "score"
ANOMALY: Final = "anomaly"
CONTRIBUTION: Final = "contribution"
VERSION: Final = "model/version"

OfTime: TypeAlias = Literal["day_sin", "day_cos", "week_sin", "week_cos", "year_sin", "year_cos"]
Transform: TypeAlias = Literal["value", "log", "change", "log_change", "log_ratio", OfTime]

INPUTS_OF: Final = {"value": 1, "log": 1, "change": 1, "log_change": 1, "log_ratio": 2} | dict.fromkeys(
    get_args(OfTime), 0
)
LOOKING_BACK: Final = frozenset({"change", "log_change"})

MetricName = Annotated[str, Field(pattern=r"^[^\s/#+][^#+\x00-\x1f\x7f]{0,199}$")]
Unit = Annotated[str, Field(max_length=32)]


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError(f"each must be greater than the one before: {', '.join(f'{value:g}' for value in values)}")
    return values


class Scaled(Config):
    """A quantity as the model has it: `(value - mean) / scale`."""

    name: MetricName = Field(description="what it is called, unique in its list")
    unit: Unit | None = Field(default=None, description="unit of the value; none: a number of its own")
    mean: FiniteFloat = Field(default=0.0, description="in the unit; what is 0 to the model")
    scale: FiniteFloat = Field(default=1.0, gt=0, description="in the unit; what is 1 to the model")


class ModelInput(Config):
    """What is read: one value a step."""

    name: MetricName = Field(description="what it is called, unique in its list")
    unit: Unit | None = Field(default=None, description="unit of the value; none: a number of its own")
    metric: MetricName | None = Field(
        default=None, description="the metric it is made of, as its source calls it; several may share one; none: name"
    )
    resample: Literal["last", "mean", "min", "max"] = Field(
        default="last", description="which of a step's readings counts"
    )
    hold_s: float = Field(default=0.0, ge=0, description="seconds for which a value stands where no newer one came")

    @property
    def source(self) -> str:
        """The metric that it is made of."""
        return self.metric or self.name


class Expression(Config):
    """A number for each step, computed from inputs.

    `value` and `log` (natural) are of one input, `change` and `log_change` its difference from the step before;
    `log_ratio` is log(first / second) of two. The rest are of the step's begin in UTC: sine and cosine of the time of
    day, week (from Monday) and year (of 365.2425 days from the epoch), a whole turn each.
    """

    transform: Transform = Field(default="value", description="what is computed")
    of: tuple[MetricName, ...] = Field(default=(), max_length=2, description="of which inputs; none: of the time")

    @model_validator(mode="after")
    def _has_its_inputs(self) -> Self:
        if len(self.of) != (wanted := INPUTS_OF[self.transform]):
            raise ValueError(f"{self.transform} of {len(self.of)} inputs: allowed are {wanted}")
        return self


class Feature(Scaled, Expression):
    """One column of what the model sees."""


class Window(Config):
    """What the model looks at."""

    length: int = Field(ge=1, le=8192, description="steps")
    step_s: float = Field(ge=0.01, le=86_400, description="seconds; whole milliseconds")
    steps: Literal["clock", "present"] = Field(default="clock", description="which steps count")
    max_pause_s: float | None = Field(
        default=None, gt=0, description="with steps present: seconds between two of them; none: any number"
    )
    max_bad_share: float = Field(
        default=0.1, ge=0, le=0.5, description="share of the values that may be missing; more, and there is no result"
    )

    @model_validator(mode="after")
    def _step_is_whole(self) -> Self:
        if not math.isclose(self.step_s * 1000, self.step_ms, rel_tol=0, abs_tol=1e-6):
            raise ValueError(f"step_s {self.step_s!r} is not a whole number of milliseconds")
        return self

    @property
    def step_ms(self) -> int:
        """The step in milliseconds."""
        return round(self.step_s * 1000)


class Target(Scaled, Expression):
    """What is forecast: an expression at the horizon's step, or over the steps up to it."""

    over: Literal["at", "rms"] = Field(
        default="at", description="at: that of the horizon's step; rms: root mean square of the steps up to it"
    )
    relative: Literal["difference", "log_ratio"] | None = Field(
        default=None,
        description="how the output tells it, by the input's last value in the window: the difference from it, or the "
        "logarithm of the ratio; none: itself. int8 has 256 steps, which are finer for a change",
    )

    @model_validator(mode="after")
    def _is_of_the_future(self) -> Self:
        if not self.of:
            raise ValueError(f"target {self.name}: {self.transform} is known beforehand")
        if self.relative and (self.transform, self.over) != ("value", "at"):
            raise ValueError(f"target {self.name}: relative is for a value at a step alone")
        return self


class ForecastOutput(Config):
    """Quantiles of what targets will be: the numbers of the output tensor, targets x horizons x quantiles."""

    kind: Literal["forecast"] = Field(description="kind of model")
    targets: tuple[Target, ...] = Field(min_length=1, max_length=MAX_INPUTS, description="what is forecast")
    horizons: Annotated[tuple[Annotated[int, Field(ge=1, le=100_000)], ...], AfterValidator(_rising)] = Field(
        min_length=1, max_length=64, description="steps after the window's end, rising"
    )
    quantiles: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], AfterValidator(_rising)] = Field(
        min_length=1, max_length=21, description="between 0 and 1, rising"
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Targets, horizons, quantiles."""
        return len(self.targets), len(self.horizons), len(self.quantiles)


class AnomalyOutput(Config):
    """A score of how unusual the window is: the higher, the more."""

    kind: Literal["anomaly"] = Field(description="kind of model")
    score: Literal["reconstruction", "direct"] = Field(
        description="reconstruction: the output is the window again, the score the mean square of the difference, both "
        "as the model has them, and a feature's contribution its share of that; direct: the output is the score itself"
    )
    threshold: FiniteFloat = Field(gt=0, description="score above which the window is an anomaly")
    clear: FiniteFloat | None = Field(
        default=None, gt=0, description="score below which it is over; none: below the threshold"
    )

    @model_validator(mode="after")
    def _clears_below(self) -> Self:
        if self.clear is not None and self.clear > self.threshold:
            raise ValueError(f"clear is {self.clear:g}: allowed is at most the threshold, {self.threshold:g}")
        return self


class View(Config):
    """What a model looks at."""

    inputs: tuple[ModelInput, ...] = Field(min_length=1, max_length=MAX_INPUTS, description="what is read")
    window: Window = Field(description="which steps it looks at")
    features: tuple[Feature, ...] = Field(min_length=1, max_length=MAX_INPUTS, description="what it sees, in order")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unique("inputs", (each.name for each in self.inputs))
        unique("features", (each.name for each in self.features))
        self._check_expressions(self.features)
        if (cells := self.window.length * max(len(self.inputs), len(self.features))) > MAX_CELLS:
            raise ValueError(f"a window of {cells} values: allowed are {MAX_CELLS}")
        for each in self.inputs:
            if each.hold_s > self.window.length * self.window.step_s:
                raise ValueError(f"input {each.name}: hold_s {each.hold_s:g} is longer than the window")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The metrics that its inputs are made of, each once, in order."""
        return tuple(dict.fromkeys(each.source for each in self.inputs))

    @property
    def reach(self) -> int:
        """How many steps before the window's first its features look at."""
        return int(any(each.transform in LOOKING_BACK for each in self.features))

    @property
    def hold_steps(self) -> tuple[int, ...]:
        """For each input how many steps its value stands for those that have none."""
        return tuple(math.floor(each.hold_s * 1000 / self.window.step_ms + 1e-9) for each in self.inputs)

    def _check_expressions(self, expressions: Iterable[Feature | Target]) -> None:
        known = {each.name for each in self.inputs}
        for each in expressions:
            if unknown := [name for name in each.of if name not in known]:
                raise ValueError(f"{each.name}: {', '.join(unknown)} is none of the inputs")


class Manifest(View, ModelCard):
    """A model of series, of one version."""

    output: Annotated[ForecastOutput | AnomalyOutput, Field(discriminator="kind")] = Field(description="what it tells")

    @model_validator(mode="after")
    def _tells_what_it_can(self) -> Self:
        unique("targets", (each.name for each in self.targets))
        self._check_expressions(self.targets)
        if isinstance(self.output, ForecastOutput) and (count := math.prod(self.output.shape)) > MAX_OUTPUTS:
            raise ValueError(f"a forecast of {count} numbers: allowed are {MAX_OUTPUTS}")
        # Quantiles may differ by less than their names.
        unique("a forecast's metrics", self.forecast_metrics)
        return self

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is forecast; nothing by an anomaly model."""
        return self.output.targets if isinstance(self.output, ForecastOutput) else ()

    @property
    def forecast_metrics(self) -> list[str]:
        """What the numbers of a forecast are called, in the order of the output; none for an anomaly model."""
        if not isinstance(self.output, ForecastOutput):
            return []
        return [
            forecast_metric(target.name, horizon * self.window.step_ms, quantile)
            for target in self.output.targets
            for horizon in self.output.horizons
            for quantile in self.output.quantiles
        ]


def forecast_metric(target: str, horizon_ms: int, quantile: float) -> str:
    """What a quantile of a target so long after the window's end is called: `level/30s/p90`."""
    return f"{target}/{horizon_ms / 1000:.15g}s/p{100 * quantile:.12g}"


def contribution_metric(feature: str) -> str:
    """What a feature's share of an anomaly's score is called."""
    return f"{CONTRIBUTION}/{feature}"


def parse_manifest(text: bytes, origin: str) -> Manifest:
    """The manifest in a JSON file's bytes, which errors call `origin`; raises ConfigError, one line per fault."""
    document = parse_document(text, origin)
    if kind_of(document) == "scene":
        raise ConfigError(f"{origin}: output.kind: found 'scene': a camera's model, allowed here: forecast, anomaly")
    return parse_config(document, Manifest, origin)
