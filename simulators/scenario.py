"""A scenario: which simulators run, from which seed, and where their ledgers go."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Any, TypeAlias

from pydantic import Field, field_validator, model_validator

from contract.config import Config
from simulators.camera import CameraConfig
from simulators.exchange import ExchangeConfig
from simulators.plant import BusConfig, PlantConfig
from simulators.weather import WeatherConfig

Simulator: TypeAlias = Annotated[
    PlantConfig | BusConfig | ExchangeConfig | WeatherConfig | CameraConfig, Field(discriminator="type")
]


class Scenario(Config):
    """Simulators that run together in one process."""

    seed: int = Field(default=1, ge=0, description="Seed of every simulator that has none of its own")
    ledger_dir: Path = Field(description="Folder of the ledgers, one NAME.jsonl each; made where there is none")
    simulators: tuple[Simulator, ...] = Field(min_length=1, description="What runs")

    @model_validator(mode="before")
    @classmethod
    def _pass_on_seed(cls, found: Any) -> Any:  # noqa: ANN401 - whatever YAML held; the fields check it afterwards
        match found:
            case {"simulators": [*simulators]}:
                seed = found.get("seed", cls.model_fields["seed"].default)
                seeded = [{"seed": seed, **one} if isinstance(one, dict) else one for one in simulators]
                return {**found, "simulators": seeded}
            case _:
                return found

    @field_validator("simulators")
    @classmethod
    def _names_differ(cls, simulators: tuple[Simulator, ...]) -> tuple[Simulator, ...]:
        names = [simulator.name for simulator in simulators]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is the name of {names.count(name)} simulators; each needs its own")
        return simulators

    def ledger_path(self, name: str) -> Path:
        """Where the ledger of a simulator is."""
        return self.ledger_dir / f"{name}.jsonl"
