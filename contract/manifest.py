"""A model's manifest: what goes in, what comes out, and which files it is; beside the files as `manifest.json`.

Whoever runs a model, on the device or in the cloud, makes its windows by these rules:

- Steps are `step_s` long and begin at whole multiples of it in UTC. A reading belongs to the step that its `sampled_at`
  lies in; an input's value there is the last or the mean of its good and finite readings.
- A step without a good reading takes the value of the step before while that is at most `hold_s` old, unless a reading
  in it was of bad quality. Else it is *missing*. A window with more than `max_bad_share` of its values missing, or an
  input without any, has no result. In others what is missing is the value before it, or, at the beginning, after it.
- The model takes `(value - mean) / scale` of each input as float32 [1, length, inputs], oldest step first, and its
  output is turned back in the same way. A model that scales by itself has a mean of 0 and a scale of 1. Where a target
  has `since`, the last value of that input in the window is added: int8 has 256 steps, which are finer for a change.
- A window's time, which is that of its result, is the end of its last step.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, FiniteFloat, model_validator

from contract.config import Config, ConfigError, parse_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MANIFEST_FILE: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 64 * 1024
MAX_MODEL_BYTES: Final = 32 << 20
MAX_INPUTS: Final = 64
MAX_CELLS: Final = 65_536
MAX_OUTPUTS: Final = 1024

# What a result's metrics are called, beside those of a forecast.
SCORE: Final = "score"
ANOMALY: Final = "anomaly"
CONTRIBUTION: Final = "contribution"
VERSION: Final = "model/version"

_METRIC_NAME: Final = r"^[^\s/#+][^#+\x00-\x1f\x7f]{0,199}$"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
MetricName = Annotated[str, Field(pattern=_METRIC_NAME)]
Unit = Annotated[str, Field(max_length=32)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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


class ModelInput(Scaled):
    """One column of the window."""

    resample: Literal["last", "mean"] = Field(default="last", description="which of a step's readings counts")
    hold_s: float = Field(default=0.0, ge=0, description="seconds for which a value stands where no newer one came")


class Window(Config):
    """What the model looks at."""

    length: int = Field(ge=1, le=8192, description="steps")
    step_s: float = Field(ge=0.01, le=86_400, description="seconds; whole milliseconds")
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


class Target(Scaled):
    """What is forecast."""

    since: MetricName | None = Field(
        default=None, description="input from whose last value in the window the forecast is the change; none: itself"
    )


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
        "as the model has them, and an input's contribution its share of that; direct: the output is the score itself"
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


class ModelFile(Config):
    """One form of the model: all forms have the same inputs and outputs, and serve equally well."""

    form: Literal["float32", "float16", "dynamic", "int8"] = Field(description="how its weights and sums are held")
    file: Name = Field(description="name of the file beside the manifest")
    sha256: Sha256 = Field(description="SHA-256 of the file, in hexadecimal")
    size_bytes: int = Field(ge=1, le=MAX_MODEL_BYTES, description="bytes of the file")
    runtime: Literal["tflite"] = Field(default="tflite", description="what runs it: built-in operators alone")


class Training(Config):
    """What it was trained on."""

    from_at: AwareDatetime = Field(description="time of the first sample")
    to_at: AwareDatetime = Field(description="time of the last sample")
    windows: int = Field(ge=1, description="number of windows")
    source: str = Field(max_length=200, description="where the data is from")
    sha256: Sha256 = Field(description="SHA-256 of the data")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.to_at < self.from_at:
            raise ValueError(f"to_at {self.to_at} is before from_at {self.from_at}")
        return self


class Manifest(Config):
    """A model of one version."""

    format: Literal[1] = Field(description="how this manifest is written")
    name: Name = Field(description="the model's name")
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$")] = Field(description="its version")
    description: str = Field(default="", max_length=1000, description="what it is for")
    inputs: tuple[ModelInput, ...] = Field(min_length=1, max_length=MAX_INPUTS, description="columns, in order")
    window: Window = Field(description="what it looks at")
    output: Annotated[ForecastOutput | AnomalyOutput, Field(discriminator="kind")] = Field(description="what it tells")
    files: tuple[ModelFile, ...] = Field(min_length=1, max_length=4, description="its forms")
    training: Training | None = Field(default=None, description="what it was trained on; none: it was not")
    metrics: dict[Name, FiniteFloat] = Field(
        default_factory=dict, max_length=64, description="how it did when it was evaluated"
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("inputs", (each.name for each in self.inputs))
        _unique("files", (each.file for each in self.files))
        _unique("forms", (each.form for each in self.files))
        if isinstance(self.output, ForecastOutput):
            _unique("targets", (each.name for each in self.output.targets))
        return self

    @model_validator(mode="after")
    def _changes_are_of_inputs(self) -> Self:
        known = {each.name for each in self.inputs}
        if isinstance(self.output, ForecastOutput):
            for target in self.output.targets:
                if target.since is not None and target.since not in known:
                    raise ValueError(f"target {target.name}: since {target.since!r} is none of the inputs")
        return self

    @model_validator(mode="after")
    def _sizes_are_bounded(self) -> Self:
        if (cells := self.window.length * len(self.inputs)) > MAX_CELLS:
            raise ValueError(f"a window of {cells} values: allowed are {MAX_CELLS}")
        if isinstance(self.output, ForecastOutput) and (count := math.prod(self.output.shape)) > MAX_OUTPUTS:
            raise ValueError(f"a forecast of {count} numbers: allowed are {MAX_OUTPUTS}")
        for each in self.inputs:
            if each.hold_s > self.window.length * self.window.step_s:
                raise ValueError(f"input {each.name}: hold_s {each.hold_s:g} is longer than the window")
        return self

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


def contribution_metric(model_input: str) -> str:
    """What an input's share of an anomaly's score is called."""
    return f"{CONTRIBUTION}/{model_input}"


def parse_manifest(text: bytes, origin: str) -> Manifest:
    """The manifest in a JSON file's bytes, which errors call `origin`; raises ConfigError, one line per fault."""
    if len(text) > MAX_MANIFEST_BYTES:
        raise ConfigError(f"{origin}: is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{origin}: is not JSON: {exc}") from exc
    return parse_config(document, Manifest, origin)


def _unique_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    _unique("keys", (key for key, _ in pairs))
    return dict(pairs)


def _unique(what: str, names: Iterable[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} must be unique, given more than once: {', '.join(twice)}")
