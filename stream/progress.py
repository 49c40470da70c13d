"""What the stream's queries have done and how they stand, for GET /healthz."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from stream.ingest.sink import Stored

Reach: TypeAlias = Literal["ok", "away"]


@dataclass(slots=True)
class Progress:
    """Of one query; written by its threads, each its own fields, and read by any.

    `lag` is the records of Kafka's fullest partition that were not stored at the last look, None before the first;
    `last_commit_at` and `database_away_since` are UTC ms; `stored_to` is when (UTC ms) the bridge had the newest record
    that is stored.
    """

    state: Literal["starting", "running", "stopping"] = "starting"
    batches: int = 0
    rows: int = 0
    last_commit_at: int | None = None
    lag: int | None = None
    stored_to: int | None = None
    database: Reach = "ok"
    database_away_since: int | None = None
    kafka: Reach = "ok"

    def committed(self, stored: Stored | None) -> None:
        """Take note of a commit of readings; None: of a batch that was found stored."""
        self.note(stored.readings + stored.texts if stored else 0)

    def note(self, rows: int) -> None:
        """Take note of a commit."""
        self.batches += 1
        self.rows += rows
        self.last_commit_at = time.time_ns() // 1_000_000

    def behind_s(self) -> float | None:
        """How far what is stored lies behind now, in seconds; 0 where nothing waits, None where that is not known."""
        if self.lag == 0 and self.database == "ok":
            return 0.0
        return None if self.stored_to is None else max(0.0, time.time() - self.stored_to / 1000)

    def document(self) -> dict[str, object]:
        """All of it, as JSON takes it."""
        behind_s = self.behind_s()
        return asdict(self) | {"behind_s": None if behind_s is None else round(behind_s, 1)}
