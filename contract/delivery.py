"""Durable delivery on top of MQTT: batch stamps, the durable mark that answers them, and declared gaps.

A node stamps every DATA message with MQTT 5 user properties: its spool's `epoch`, the batch's number in
it, and `oldest`, the lowest batch that it still keeps. The bridge answers with an NCMD that names the highest batch
below which all are in Kafka. Everything under `oldest` was answered before, so the bridge needs no store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from contract.errors import CodecError, HeaderError
from contract.sparkplug import Metric, Payload, Property

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EPOCH_PROPERTY: Final = "hw-epoch"
BATCH_PROPERTY: Final = "hw-batch"
OLDEST_PROPERTY: Final = "hw-oldest"

DURABLE_EPOCH: Final = "Headwater/Durable/Epoch"
DURABLE_THROUGH: Final = "Headwater/Durable/Through"
GAP: Final = "Headwater/Gap"
_MAX_NUMBER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class BatchId:
    """Which batch of which spool; numbers start at 1 and have no holes within an epoch.

    The epoch is the UTC time in ms at which the spool was made: a new spool has a higher one.
    """

    epoch: int
    batch_no: int


@dataclass(frozen=True, slots=True)
class BatchStamp:
    """What stands beside a DATA payload: the batch, and the oldest batch the node still keeps."""

    batch: BatchId
    oldest: int

    def to_properties(self) -> list[tuple[str, str]]:
        """The stamp as MQTT 5 user properties."""
        return [
            (EPOCH_PROPERTY, str(self.batch.epoch)),
            (BATCH_PROPERTY, str(self.batch.batch_no)),
            (OLDEST_PROPERTY, str(self.oldest)),
        ]

    @classmethod
    def from_properties(cls, properties: Iterable[tuple[str, str]]) -> BatchStamp | None:
        """The stamp in user properties, None where there is none; raises HeaderError for half or a wrong one."""
        found = {key: value for key, value in properties if key in {EPOCH_PROPERTY, BATCH_PROPERTY, OLDEST_PROPERTY}}
        if not found:
            return None
        epoch, batch_no, oldest = (
            _number(key, found.get(key)) for key in (EPOCH_PROPERTY, BATCH_PROPERTY, OLDEST_PROPERTY)
        )
        if oldest > batch_no:
            raise HeaderError(f"{OLDEST_PROPERTY} {oldest} is above {BATCH_PROPERTY} {batch_no}")
        return cls(BatchId(epoch, batch_no), oldest)


def _number(key: str, text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 19 or not 0 < int(text) <= _MAX_NUMBER:  # noqa: PLR2004 - digits of 2**63
        raise HeaderError(f"user property {key} is {text!r}: allowed are 1 to {_MAX_NUMBER}")
    return int(text)


@dataclass(frozen=True, slots=True)
class DurableMark:
    """Every batch of `epoch` up to and including `through` has been acknowledged by Kafka."""

    epoch: int
    through: int

    def to_payload(self, timestamp_ms: int) -> Payload:
        """The mark as the payload of an NCMD."""
        values = {DURABLE_EPOCH: self.epoch, DURABLE_THROUGH: self.through}
        return Payload(timestamp_ms, tuple(Metric(k, DataType.INT64, v, timestamp_ms) for k, v in values.items()))

    @classmethod
    def from_metrics(cls, metrics: Sequence[Metric]) -> DurableMark | None:
        """The mark among an NCMD's metrics, None where there is none; raises CodecError for a wrong one."""
        found = {metric.name: metric.value for metric in metrics if metric.name in {DURABLE_EPOCH, DURABLE_THROUGH}}
        if not found:
            return None
        epoch, through = found.get(DURABLE_EPOCH), found.get(DURABLE_THROUGH)
        if not isinstance(epoch, int) or not isinstance(through, int):
            raise CodecError(f"a durable mark needs integers {DURABLE_EPOCH} and {DURABLE_THROUGH}, found {found!r}")
        return cls(epoch, through)


@dataclass(frozen=True, slots=True)
class Gap:
    """A node's own word that readings of a device between two UTC times (ms) may be missing, and why."""

    from_ms: int
    to_ms: int
    reason: str

    def to_metric(self, timestamp_ms: int) -> Metric:
        """The gap as a metric of the device's DDATA."""
        bounds = {
            "from": Property(DataType.DATETIME, self.from_ms),
            "to": Property(DataType.DATETIME, self.to_ms),
        }
        return Metric(GAP, DataType.STRING, self.reason, timestamp_ms, properties=bounds)

    @classmethod
    def from_metric(cls, metric: Metric) -> Gap:
        """The gap in a metric called `GAP`; raises CodecError when it is none."""
        bounds = [prop.value if prop else None for prop in map(metric.properties.get, ("from", "to"))]
        match (*bounds, metric.value):
            case (int(from_ms), int(to_ms), str(reason)) if from_ms <= to_ms:
                return cls(from_ms, to_ms, reason)
            case _:
                raise CodecError(f"{GAP} {metric.value!r} with {bounds}: a reason and two times in order are needed")
