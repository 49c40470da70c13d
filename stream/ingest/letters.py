"""Dead letters that the store itself writes, and which of a batch are kept.

A node that sends garbage at full rate must not fill the database.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from contract.topics import NAMESPACE
from stream.ingest.rows import WHOLE_PAYLOAD, DeadLetter
from stream.ingest.series import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from stream.ingest.batch import SeriesColumn

NodeName: TypeAlias = tuple[str, str]
"""Group and node."""

MAX_LETTERS: Final = 1000
MAX_PAYLOAD_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Readings of a node that were not stored, since it has as many series as are allowed."""

    readings: int
    metrics: int
    example: str


def left_out(column: SeriesColumn, ids: NDArray[np.int32]) -> dict[NodeName, LeftOut]:
    """By node, what was left out of readings [n] with these series' numbers, int32 [n]."""
    found: dict[NodeName, LeftOut] = {}
    if (ids != REFUSED).all():
        return found
    counts = np.bincount(column.places[ids == REFUSED], minlength=len(column.keys)).tolist()
    for key, count in zip(column.keys, counts, strict=True):
        if count:
            before = found.get(key[:2], LeftOut(0, 0, key.metric))
            found[key[:2]] = LeftOut(before.readings + count, before.metrics + 1, before.example)
    return found


def letters_of(nodes: Mapping[NodeName, LeftOut], records: pa.Table) -> Iterator[DeadLetter]:
    """A letter for each record of these nodes, any of which may have held what was left out."""
    if not nodes:
        return
    names = ("kafka_topic", "kafka_partition", "kafka_offset", "received_at_ms", "group_id", "node_id")
    for topic, partition, offset, at_ms, *node in zip(*(records[name].to_pylist() for name in names), strict=True):
        group_id, node_id = node
        told = nodes.get((group_id, node_id))
        if told is not None:
            of = f"{NAMESPACE}/{group_id}/+/{node_id}"
            reason = (
                f"the node has as many series as are allowed (limits.max_series_per_node): {told.readings} readings of "
                f"{told.metrics} new metrics of it are left out of this micro-batch, among them {told.example!r:.100}"
            )
            yield DeadLetter(topic, partition, offset, WHOLE_PAYLOAD, of, None, reason, at_ms, None)


def bounded(
    letters: Iterable[DeadLetter], max_letters: int = MAX_LETTERS, max_payload_bytes: int = MAX_PAYLOAD_BYTES
) -> tuple[list[DeadLetter], int]:
    """The letters to keep, and how many are left out; the last one kept says so.

    Nodes take turns, so that a flood of one hides nothing of another. Payloads past the bound are left out of their
    letters: where they stand in Kafka is the letters' key.
    """
    turns: Counter[str] = Counter()
    queue: list[tuple[int, DeadLetter]] = []
    for letter in letters:
        node = _node(letter.mqtt_topic)
        queue.append((turns[node], letter))
        turns[node] += 1
    queue.sort(key=itemgetter(0))
    kept = _with_payloads([letter for _, letter in queue[:max_letters]], max_payload_bytes)
    left_out = len(queue) - len(kept)
    if left_out:
        kept[-1] = kept[-1]._replace(reason=f"{kept[-1].reason} (and {left_out} more of this batch, left out)")
    return kept, left_out


def _node(topic: str | None) -> str:
    return "/".join((topic or "").split("/")[1:4:2])


def _with_payloads(letters: list[DeadLetter], left_bytes: int) -> list[DeadLetter]:
    kept = []
    for letter in letters:
        left_bytes -= len(letter.payload or b"")
        kept.append(letter if left_bytes >= 0 else letter._replace(payload=None))
    return kept
