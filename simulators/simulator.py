"""What every simulator is: a frozen config that can run itself."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from contract.config import Config
from simulators.ledger import Match  # noqa: TC001 - pydantic reads the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from simulators.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Running:
    """A simulator that listens: where, such as {"url": ...} or {"host": ..., "port": ...}."""

    addresses: Mapping[str, str | int]


class SimulatorConfig(Config):
    """What all simulators' configs share; each adds `type: Literal[...]` and its own keys.

    The same seed gives the same data.
    """

    match: ClassVar[Match]

    name: str = Field(
        pattern=r"^[A-Za-z0-9_.-]+$", description="What the simulator, its ledger and its address are called"
    )
    seed: int = Field(default=0, ge=0, description="Seed of its data; the scenario's where not given")
    host: str = Field(default="127.0.0.1", description="Address to listen at")
    port: int = Field(default=0, ge=0, le=65535, description="TCP port to listen at; 0 takes a free one")

    @abstractmethod
    def run(self, ledger: Ledger) -> AbstractAsyncContextManager[Running]:
        """Serve inside the context, noting in `ledger` what is served; it listens once entered."""
