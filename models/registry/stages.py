"""Which stage each version of a model is in: what the moves so far come to. Pure.

A move is never changed or deleted, and written under a name of its own: a store that knows neither locks nor
compare-and-swap serves as well, and who moved what, when and why stays known.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field

from contract.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Stage(enum.StrEnum):
    """How far a version has come; canary and live are places for one version each."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    LIVE = "live"
    RETIRED = "retired"


class Move(Config):
    """That a version was put into a stage."""

    version: str = Field(description="version that was moved")
    stage: Stage = Field(description="stage that it was put into")
    at: AwareDatetime = Field(description="when")
    by: str = Field(max_length=200, description="who, as the machine knew them")
    why: str = Field(default="", max_length=1000, description="reason given")


def stages(versions: Iterable[str], moves: Iterable[Move]) -> Mapping[str, Stage]:
    """The stage of each version; who takes the place of another retires it."""
    found = dict.fromkeys(versions, Stage.CANDIDATE)
    for move in sorted(moves, key=lambda move: move.at):
        if move.version not in found:
            continue
        if move.stage in {Stage.CANARY, Stage.LIVE}:
            for version, stage in found.items():
                if stage is move.stage:
                    found[version] = Stage.RETIRED
        found[move.version] = move.stage
    return found
