"""Stages: in which order the nodes of a group get a version, and how many of them may fail. No I/O."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

STAGES: Final = "canary:1,10%,50%,100%"
_STAGE: Final = re.compile(r"(?:(?P<name>[a-z][a-z0-9-]{0,31}):)?(?P<number>\d{1,6}|\d{1,3}(?:\.\d{1,3})?%)")
_MOST_STAGES: Final = 50
_SPAN: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Amount:
    """So many nodes, or so many percent of them."""

    number: float
    percent: bool

    @classmethod
    def parse(cls, text: str, what: str) -> Amount:
        """`5` or `12.5%`; raises ConfigError, in which `what` says where it stood."""
        found = _STAGE.fullmatch(text)
        if found is None or found["name"] is not None:
            raise ConfigError(f"{what}: found {text!r}, allowed: a number of nodes, or percent of them, such as 5%")
        amount = cls(float(text.rstrip("%")), text.endswith("%"))
        if amount.percent and amount.number > 100:  # noqa: PLR2004 - percent
            raise ConfigError(f"{what}: found {text!r}, allowed: at most 100%")
        return amount

    def of(self, nodes: int, *, up: bool) -> int:
        """How many of so many nodes that is, a part of one rounded up or down."""
        if not self.percent:
            return min(int(self.number), nodes)
        # What a float makes of 7 % of 100 is a little more than 7.
        share = round(self.number * nodes / 100, 9)
        return math.ceil(share) if up else math.floor(share)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: its nodes are those that earlier ones have not had."""

    name: str
    nodes: tuple[str, ...]


def stages(text: str, nodes: Sequence[str]) -> tuple[Stage, ...]:
    """The nodes, in their order, in stages such as `canary:1,10%,100%`, counted from the first; raises ConfigError.

    A stage that has no nodes of its own, as 10 % of five nodes after one, is left out.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > _MOST_STAGES:
        raise ConfigError(f"--stages: {len(parts)} of them: allowed are {_MOST_STAGES}")
    made: list[Stage] = []
    done = 0
    for part in parts:
        name, until = _stage(part)
        upto = until.of(len(nodes), up=True)
        if upto > done:
            made.append(Stage(name, tuple(nodes[done:upto])))
            done = upto
    if done < len(nodes):
        raise ConfigError(f"--stages: {text!r} ends with {done} of {len(nodes)} nodes: let the last one be 100%")
    if not made:
        raise ConfigError("--stages: there are no nodes")
    return tuple(made)


def _stage(part: str) -> tuple[str, Amount]:
    found = _STAGE.fullmatch(part)
    if found is None:
        raise ConfigError(
            f"--stages: found {part!r}, allowed: [NAME:]NUMBER or [NAME:]PERCENT% between commas, such as {STAGES}"
        )
    return found["name"] or part, Amount.parse(found["number"], "--stages")


def span(text: str, what: str, *, least: timedelta = timedelta(0)) -> timedelta:
    """A time such as `90s`, `10m`, `2h` or `7d`; raises ConfigError, in which `what` says where it stood."""
    found = _SPAN.fullmatch(text)
    length = timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None
    if length is None or not least <= length <= _LONGEST:
        raise ConfigError(f"{what}: found {text!r}, allowed: a number with s, m, h or d, such as 10m, up to 366d")
    return length
