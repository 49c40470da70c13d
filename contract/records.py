"""Kafka records: one per Sparkplug payload, key `group/node`, and the headers beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.delivery import BatchId
from contract.errors import HeaderError

if TYPE_CHECKING:
    from collections.abc import Iterable

PAYLOAD_TOPIC: Final = "headwater.payloads"
DEAD_LETTER_TOPIC: Final = "headwater.deadletters"

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class RecordHeaders:
    """What the bridge knows of a payload; `reason` stands in the dead-letter topic only.

    `received_at_ms` is the UTC time at which the bridge had the message; `oldest` the lowest batch that the node still
    kept when it sent this one.
    """

    topic: str
    received_at_ms: int
    batch: BatchId | None = None
    reason: str | None = None
    oldest: int | None = None

    def to_kafka(self) -> Headers:
        """The headers as Kafka carries them: names and UTF-8 text."""
        values: dict[str, object | None] = {
            "topic": self.topic,
            "received_at": self.received_at_ms,
            "epoch": self.batch and self.batch.epoch,
            "batch_no": self.batch and self.batch.batch_no,
            "oldest": self.oldest,
            "reason": self.reason,
        }
        return [(name, str(value).encode(errors="replace")) for name, value in values.items() if value is not None]

    @classmethod
    def from_kafka(cls, headers: Iterable[tuple[str, bytes]]) -> RecordHeaders:
        """The headers of a record; raises HeaderError when one that is needed is missing or cannot be read."""
        found = dict(headers)
        try:
            epoch, batch_no = (int(found[key]) if key in found else None for key in ("epoch", "batch_no"))
            return cls(
                topic=found["topic"].decode(),
                received_at_ms=int(found["received_at"]),
                batch=None if epoch is None or batch_no is None else BatchId(epoch, batch_no),
                reason=found["reason"].decode() if "reason" in found else None,
                oldest=int(found["oldest"]) if "oldest" in found else None,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as exc:  # the latter two: a header without a value
            raise HeaderError(f"record headers {found!r}: topic and received_at (ms) are needed ({exc!r})") from exc


def record_key(group: str, node: str) -> bytes:
    """The key that keeps a node's records in one partition, in order."""
    return f"{group}/{node}".encode()
