"""How the uplink stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class UplinkStatus:
    """What is known of the uplink in this run; `marks`: how often the cloud has said that it has something of it.

    `away`: what is read now is kept for replay.
    """

    connected: bool = False
    unacknowledged: int = 0
    connections: int = 0
    births: int = 0
    marks: int = 0
    error: str | None = None
    away: bool = False
