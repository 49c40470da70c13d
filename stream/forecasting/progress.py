"""How forecasting stands, for GET /healthz."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(slots=True)
class ModelProgress:
    """A model that is served: how many devices and subjects it looks at, and what came of it in this run.

    `made_to_at` is the latest end of a window that was looked at, UTC ms.
    """

    version: str
    watched: int = 0
    windows: int = 0
    forecasts: int = 0
    incidents: int = 0
    scored: int = 0
    made_to_at: int | None = None
    error: str | None = None


@dataclass(slots=True)
class ForecastingProgress:
    """Written by forecasting's thread, read by any; `refused` says of each package why it is not served."""

    state: Literal["starting", "running", "stopping"] = "starting"
    database: Literal["ok", "away"] = "ok"
    models: dict[str, ModelProgress] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    round_s: float | None = None

    def document(self) -> dict[str, object]:
        """All of it, as JSON takes it."""
        return asdict(self)
