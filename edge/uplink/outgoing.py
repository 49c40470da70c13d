"""What is sent of a spooled batch: as it is, marked as historical, or, where the broker would not take it, a gap."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from contract.delivery import Gap
from contract.errors import CodecError
from contract.sparkplug import as_historical
from edge.batch import gap_batch
from edge.lane import Lane

if TYPE_CHECKING:
    from contract.delivery import BatchId
    from edge.spool import StoredBatch

logger = logging.getLogger(__name__)

_MS_PER_S: Final = 1000
# What a sequence number adds to a payload, at most.
_SEQ_BYTES: Final = 3
# So many connections in a row, each with its births answered, do not break before the same batch by chance.
_SUSPECTED_AFTER: Final = 5


class Outgoing:
    """Makes the payloads. A batch that the broker takes in no form would block all that follow it.

    A broker may announce its bound (as Mosquitto does with `max_packet_size`), or refuse what is larger (both hold for
    one connection), or just hang up on it (as Mosquitto does by `message_size_limit`): what it hung up on again and
    again bounds all of this run.
    """

    def __init__(self, historical_after_s: float) -> None:
        self._historical_after_ms = historical_after_s * _MS_PER_S
        self._max_payload_bytes = 0
        self._learned_bytes: int | None = None
        self._suspect: BatchId | None = None
        self._suspected = 0
        self._has_suspect = False
        self._told = False

    def connected(self, max_payload_bytes: int) -> None:
        """Begins a connection, with the bound that the broker announced."""
        learned = self._learned_bytes
        self._max_payload_bytes = max_payload_bytes if learned is None else min(learned, max_payload_bytes)
        self._has_suspect = False

    def refused_as_too_large(self, size_bytes: int) -> None:
        """Takes note of a bound that the broker had not announced."""
        self._max_payload_bytes = min(self._max_payload_bytes, size_bytes - 1)

    def unanswered(self, batch: BatchId, size_bytes: int) -> None:
        """Takes note, in order, of what had no answer when the connection was lost; the first is under suspicion."""
        if self._has_suspect:
            return
        self._has_suspect = True
        self._suspected = self._suspected + 1 if batch == self._suspect else 1
        self._suspect = batch
        if self._suspected >= _SUSPECTED_AFTER:
            self._learned_bytes = size_bytes - 1

    def answered(self, batch: BatchId) -> None:
        """Takes note that the broker lives on after a batch."""
        if batch == self._suspect:
            self._suspected = 0

    def payload_of(self, lane: Lane, batch: StoredBatch, now_ms: int) -> bytes:
        """The payload, without a sequence number; what is replayed, or has waited long, is historical."""
        payload = batch.payload
        if lane is Lane.BACKFILL or now_ms - batch.kept_ms > self._historical_after_ms:
            # One that the disk has garbled is sent as it is, for the cloud to set aside: it must not block the others.
            with contextlib.suppress(CodecError):
                payload = as_historical(payload)
        if len(payload) + _SEQ_BYTES <= self._max_payload_bytes:
            return payload
        self._tell(batch.device, len(payload))
        return gap_batch(batch.device, Gap(batch.from_ms, batch.to_ms, "too large for the broker"), now_ms).payload

    def _tell(self, device: str, size_bytes: int) -> None:
        if not self._told:
            logger.error(
                "%s: the broker takes no payload of %d bytes: batches so large are lost, and declared as gaps; "
                "let it take larger packets, or split the source, and start the agent again",
                device or "node",
                size_bytes,
            )
        self._told = True
