"""What a bridge has carried."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(slots=True)
class Counts:
    """Messages since the start."""

    received: int = 0
    produced: int = 0
    dead_letters: int = 0

    def copy(self) -> Counts:
        """As they are now."""
        return replace(self)

    def since(self, before: Counts) -> str:
        """What has been carried since then, for the log."""
        return (
            f"{self.received - before.received} messages in, {self.produced - before.produced} to Kafka, "
            f"{self.dead_letters - before.dead_letters} dead letters since the last line"
        )
