"""What all nodes of a fleet share: its configuration, the time, who is told of their samples, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from simulators.fleet.config import FleetConfig


@dataclass(slots=True)
class Counts:
    """What a fleet has done since its start; `samples` are of all metrics of a node at once.

    Those skipped came too late: the machine is too slow for this fleet.
    """

    samples: int = 0
    samples_skipped: int = 0
    sent: int = 0
    sent_again: int = 0
    durable: int = 0
    evicted: int = 0
    gaps: int = 0
    connections: int = 0
    failed_connections: int = 0
    lines_lost: int = 0
    births: int = 0
    births_asked_for: int = 0
    refused: int = 0
    not_understood: int = 0


class Note(Protocol):
    """Is told of each sample before it is sent, with its time by the node's clock (UTC ms)."""

    def __call__(self, node: str, values: Mapping[str, float], source_at: int, *, promised: bool = True) -> None:
        """Take note of a sample; one that is not `promised` may be lost."""


@dataclass(frozen=True, slots=True)
class World:
    """What all nodes of a fleet share. `tls` makes a node's context by its name."""

    config: FleetConfig
    note: Note
    tls: Callable[[str], ssl.SSLContext | None]
    counts: Counts = field(default_factory=Counts)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    began_s: float = field(default_factory=time.monotonic)

    @property
    def now_s(self) -> float:
        """Seconds since the fleet's start."""
        return time.monotonic() - self.began_s

    async def stops_before(self, at_s: float) -> bool:
        """Wait until then; sooner, and True, when the fleet stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(at_s) else max(0.0, at_s - self.now_s)):
                await self.stopping.wait()
        return self.stopping.is_set()
