"""Scores to incidents: when one begins, peaks and is over. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Rule:
    """It begins above `threshold`, is over below `clear`, and counts when it has lasted for `minimum_ms`."""

    threshold: float
    clear: float
    minimum_ms: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of the window that ended then, and the readings that made it so."""

    end_ms: int
    score: float
    evidence: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """What is known of one; `ended_ms` None: it lasts. `is_told`: it has lasted long enough to count."""

    started_ms: int
    peak_ms: int
    peak_score: float
    threshold: float
    evidence: Sequence[Mapping[str, Any]] = ()
    ended_ms: int | None = None
    is_told: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def parse(cls, document: Mapping[str, Any] | None) -> Self | None:
        """The inverse."""
        return None if document is None else cls(**document)


def follow(before: Incident | None, scored: Iterable[Scored], rule: Rule) -> tuple[Incident | None, list[Incident]]:
    """What lasts after these scores, whose ends rise; and what is new to tell, the latest of each incident."""
    told: dict[int, Incident] = {}
    now = before
    for each in scored:
        now = _after(now, each, rule)
        if now is not None and now.is_told:
            told[now.started_ms] = now
        if now is not None and now.ended_ms is not None:
            now = None
    return now, list(told.values())


def _after(now: Incident | None, scored: Scored, rule: Rule) -> Incident | None:
    end_ms, score = scored.end_ms, scored.score
    if now is None:
        if score <= rule.threshold:
            return None
        now = Incident(end_ms, end_ms, score, rule.threshold, scored.evidence)
    elif score < rule.clear or (score <= rule.threshold and not now.is_told):
        # What has not lasted for the minimum was none.
        return replace(now, ended_ms=end_ms) if now.is_told else None
    elif score > now.peak_score:
        now = replace(now, peak_ms=end_ms, peak_score=score, evidence=scored.evidence)
    return replace(now, is_told=now.is_told or end_ms - now.started_ms >= rule.minimum_ms)
