"""The configuration of models on the device."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Literal

from pydantic import Field, field_validator

from contract.config import Config
from contract.manifest import MAX_INPUTS
from contract.topics import check_identifier
from edge.reporting import ReportRule  # noqa: TC001 - pydantic reads the annotations at run time

_ADDRESS = r"^[^/]+/.+$"


class ModelConfig(Config):
    """One model: what it tells is a device of its own, beside the sources."""

    name: str = Field(description="Sparkplug device id of its results, unique among models and sources")
    directory: Path = Field(description="where manifest.json and the files lie; watched, and taken in when they change")
    inputs: dict[str, Annotated[str, Field(pattern=_ADDRESS)]] = Field(
        min_length=1,
        max_length=MAX_INPUTS,
        description="for each metric that the manifest's inputs are made of SOURCE/METRIC of this agent",
    )
    every_s: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="seconds from one window to the next, in whole steps; none: each step",
    )
    grace_s: float = Field(
        default=1.0, ge=0, le=3600, description="seconds after a window's end for which its readings are waited for"
    )
    form: Literal["fastest", "float32", "float16", "dynamic", "int8"] = Field(
        default="fastest", description="which of its forms is run; fastest: measured here when it is taken in"
    )
    report: tuple[ReportRule, ...] = Field(
        default=(), description="what is held back of results that hardly change, as for a source; none: nothing"
    )

    @field_validator("name")
    @classmethod
    def _name_is_identifier(cls, name: str) -> str:
        check_identifier(name, "device")
        return name

    def address(self, metric_of_model: str) -> tuple[str, str]:
        """The source and the metric that one of the manifest's `sources` is here."""
        source, _, metric = self.inputs[metric_of_model].partition("/")
        return source, metric


class InferenceConfig(Config):
    """The process that runs all models."""

    timeout_s: float = Field(default=5.0, gt=0, le=600, description="seconds for a window, or to load and try a model")
    max_memory_mb: int = Field(
        default=128, ge=16, le=8192, description="MiB that it may take beyond what it starts with; more fails"
    )
    nice: int = Field(default=5, ge=0, le=19, description="how far it stands back, as nice(1) has it")
    watch_s: float = Field(
        default=2.0, ge=0.05, le=3600, description="seconds between looks at the models' directories"
    )
    trusted_keys: tuple[Path, ...] = Field(
        default=(),
        max_length=16,
        description="Ed25519 public keys (PEM files): only what one of them has signed is served; none: anything is",
    )
