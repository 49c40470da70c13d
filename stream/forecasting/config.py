"""Which models look at which devices, and when."""

from __future__ import annotations

import string
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from contract.config import Config
from contract.manifest import MetricName  # noqa: TC001 - pydantic reads the annotations at run time

_ADDRESS: Final = r"^[^/#+]+/[^/#+]+/[^/#+]*$"
_OF_DEVICE: Final = frozenset({"group", "node", "device"})
_OF_SERIES: Final = _OF_DEVICE | {"subject"}
_OF_EDGE: Final = _OF_SERIES | {"model"}


def _only(allowed: frozenset[str]) -> AfterValidator:
    def check(text: str) -> str:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        except ValueError as exc:
            raise ValueError(f"{text!r}: {exc}") from exc
        if unknown := [name for name in names if name not in allowed]:
            wanted = ", ".join(f"{{{name}}}" for name in sorted(allowed))
            raise ValueError(f"{text!r}: {{{unknown[0]}}} is not known: allowed are {wanted}")
        return text

    return AfterValidator(check)


Glob = Annotated[str, Field(min_length=1, max_length=600)]
MetricTemplate = Annotated[str, Field(min_length=1, max_length=400), _only(_OF_SERIES)]
DeviceTemplate = Annotated[str, Field(pattern=_ADDRESS), _only(_OF_DEVICE)]
EdgeTemplate = Annotated[str, Field(pattern=_ADDRESS), _only(_OF_EDGE)]


class Elsewhere(Config):
    """A metric of another device than the one that a model is bound to."""

    device: DeviceTemplate = Field(description="group/node/device; {group}, {node}, {device} are those bound to")
    metric: MetricTemplate = Field(description="as that device calls it; {subject} is the subject")


class Binding(Config):
    """Models and the devices that they look at."""

    model: Glob = Field(description="name of the model, as its manifest has it, or a glob of names")
    devices: tuple[Annotated[Glob, Field(pattern=_ADDRESS)], ...] = Field(
        min_length=1, description="globs group/node/device; a star stops at a slash"
    )
    metrics: dict[MetricName, MetricTemplate | Elsewhere] = Field(
        default_factory=dict,
        description="for a metric that the manifest's inputs are made of what it is called here; with {subject} in it "
        "there is one series of windows for each subject that the device has; none: as in the manifest",
    )
    subjects: tuple[Glob, ...] = Field(default=("*",), min_length=1, description="globs of the subjects wanted")
    every_s: float | None = Field(
        default=None, gt=0, le=86_400, description="seconds from one window to the next, in whole steps; none: a step"
    )
    cloud: bool = Field(default=True, description="whether it is run here")
    edge: EdgeTemplate | None = Field(
        default=None,
        description="group/node/device as which an agent tells what the same model made of the same readings; "
        "{model} is the model's name; none: no agent runs it",
    )
    season_s: float = Field(default=86_400.0, gt=0, description="seconds; what the seasonal naive forecast repeats")
    minimum_s: float = Field(default=0.0, ge=0, description="seconds that a score stays high before it is an incident")


class ForecastingConfig(Config):
    """Models that are run in the job, and how good they are."""

    models_dir: Path = Field(description="directory of packages, each a directory with a manifest; it is watched")
    trusted_keys: tuple[Path, ...] = Field(
        default=(), description="Ed25519 public keys (PEM): only what one of them has signed is served; none: anything"
    )
    bindings: tuple[Binding, ...] = Field(min_length=1, description="which models look at which devices")
    poll_s: float = Field(default=1.0, gt=0, le=60, description="seconds from one look for windows to the next")
    watch_s: float = Field(default=10.0, gt=0, le=3600, description="seconds between looks at models_dir, at series")
    grace_s: float = Field(
        default=5.0, ge=0, le=3600, description="seconds for which an input that is behind the others is waited for"
    )
    catch_up: int = Field(
        default=240, ge=1, le=100_000, description="most windows of a device that are made up for after an outage"
    )
    late_s: float = Field(
        default=86_400.0, gt=0, description="seconds for which late results of devices and readings to score by count"
    )
    rescan_s: float = Field(default=300.0, gt=0, description="seconds between looks for what came late")
