"""Whether what is new works: the agent's own view of itself, held against how it was before. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class Condition:
    """How the agent fares: what the cloud has confirmed in this run (`marks`), and the state of each source."""

    connected: bool
    marks: int
    sources: Mapping[str, str]
    error: str | None = None

    @property
    def failing(self) -> list[str]:
        """The sources that do not work."""
        return [name for name, state in self.sources.items() if state != "ok"]


def lacking(now: Condition, marks_before: int, failed_before: Collection[str]) -> list[str]:
    """What is still wanting; nothing: it works. A source that failed before may fail."""
    found = []
    if not now.connected:
        found.append(f"nothing is delivered: {now.error or 'it is still connecting'}")
    elif now.marks <= marks_before:
        found.append("the cloud has not confirmed anything since")
    found += [f"source {name} is {now.sources[name]}" for name in now.failing if name not in failed_before]
    return found
