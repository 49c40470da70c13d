"""Which dead letters of a batch are kept: a node that sends garbage at full rate must not fill the database."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.ingest.rows import DeadLetter

MAX_LETTERS: Final = 1000
MAX_PAYLOAD_BYTES: Final = 1 << 20


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
