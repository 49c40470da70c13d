"""What a node tells of its updates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Metric

_MAX_REASON_CHARACTERS: Final = 500


def update_metric(kind: str, name: str) -> str:
    """The node's metric that tells how it stands with what it runs of a kind and name."""
    return f"Update/{kind}/{name}"


class UpdateState(StrEnum):
    """How far an update is; the last three are its end."""

    WAITING = "waiting"
    FETCHING = "fetching"
    TRYING = "trying"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"

    @property
    def is_final(self) -> bool:
        """Whether nothing more comes of it."""
        return self in {UpdateState.CONFIRMED, UpdateState.REFUSED, UpdateState.ROLLED_BACK}


@dataclass(frozen=True, slots=True)
class UpdateNews:
    """How a node stands with a kind and name, as the value of its `update_metric`: told at births and at each change.

    `counter` and `wanted` are of the last desired state that it took, `running` is what runs; `reason` is why it waits,
    or why it was refused or rolled back. What is known of none is None.
    """

    kind: str
    name: str
    counter: int | None = None
    wanted: str | None = None
    running: str | None = None
    state: UpdateState | None = None
    reason: str | None = None

    def to_text(self) -> str:
        """The JSON that is the metric's value, so that SQL can look into it."""
        reason = None if self.reason is None else self.reason[:_MAX_REASON_CHARACTERS]
        told = {"counter": self.counter, "wanted": self.wanted, "running": self.running, "state": self.state}
        return json.dumps({**told, "reason": reason}, ensure_ascii=False)

    def to_metric(self, timestamp_ms: int) -> Metric:
        """The metric."""
        return Metric(update_metric(self.kind, self.name), DataType.STRING, self.to_text(), timestamp_ms)

    @classmethod
    def from_metric(cls, metric: Metric) -> UpdateNews:
        """What a node has told; raises CodecError for what is no news of an update."""
        prefix, kind, name = (*metric.name.split("/", 2), "", "")[:3]
        if prefix != "Update" or not kind or not name or not isinstance(metric.value, str):
            raise CodecError(f"metric {metric.name!r} is no news of an update")
        try:
            told = json.loads(metric.value)
            match told:
                case {
                    "counter": int() | None as counter,
                    "wanted": str() | None as wanted,
                    "running": str() | None as running,
                    "state": str() | None as state,
                    "reason": str() | None as reason,
                }:
                    state = None if state is None else UpdateState(state)
                    return cls(kind, name, counter, wanted, running, state, reason)
        except (ValueError, RecursionError) as exc:
            raise CodecError(f"{metric.name}: news of an update that cannot be read: {exc}") from exc
        raise CodecError(f"{metric.name}: news of an update without what it needs: {metric.value[:80]!r}")
