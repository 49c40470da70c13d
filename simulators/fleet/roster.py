"""Who is in a fleet, and what is the matter with each: drawn from the seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.fleet.config import FleetConfig


@dataclass(frozen=True, slots=True)
class Member:
    """A node; `pause_s` is a slow one's, 0 for all others."""

    number: int
    name: str
    site: int
    churns: bool = False
    has_wrong_clock: bool = False
    pause_s: float = 0.0
    duplicates: bool = False
    is_foreign: bool = False


def roster(config: FleetConfig) -> tuple[Member, ...]:
    """All nodes. Shares are met as nearly as can be; a foreign node is nothing else that is odd."""
    odd = config.misbehaving
    foreign = _some(config, "foreign", odd.foreign)
    duplicating = _some(config, "duplicate", odd.duplicate) - foreign
    churning = _some(config, "churn", config.churn.share if config.churn else 0.0)
    wrong = _some(config, "clocks", config.clocks.share if config.clocks else 0.0)
    slow = _some(config, "slow", config.slow.share if config.slow else 0.0) - foreign
    return tuple(
        Member(
            number=number,
            name=f"{config.prefix}-{number:04}",
            site=number % config.sites,
            churns=number in churning,
            has_wrong_clock=number in wrong,
            pause_s=config.slow.pause_s if config.slow and number in slow else 0.0,
            duplicates=number in duplicating,
            is_foreign=number in foreign,
        )
        for number in range(config.nodes)
    )


def drawn(seed: int, *what: object) -> random.Random:
    """Chance for one purpose: another purpose, or another node, draws from its own."""
    return random.Random(f"fleet {seed} {' '.join(map(str, what))}")  # noqa: S311 - a simulation must be repeatable


def _some(config: FleetConfig, what: str, share: float) -> frozenset[int]:
    return frozenset(drawn(config.seed, what).sample(range(config.nodes), round(share * config.nodes)))
