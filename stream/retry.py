"""`python -m stream deadletter retry`: letters chosen, sent again, and marked."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stream.deadletters import MAX_RETRIES, Filters, Letter, letters, payload_of
from stream.ingest.decode import KEPT_PAYLOAD_BYTES
from stream.resend import Again, Resender, Unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg2.extensions import connection

    from stream.config import StreamConfig

# Sent, acknowledged and marked together: what is cut off in between is sent once more, which the database drops.
_AT_ONCE: Final = 100

_RETRIED: Final = """
update dead_letter set retried_at = now(), retry_partition = %s, retry_offset = %s, retries = %s
where (kafka_topic, kafka_partition, kafka_offset) = (%s, %s, %s) and received_at is not distinct from %s
"""


def retry(
    opened: connection, config: StreamConfig, filters: Filters, say: Callable[[str], None], *, dry_run: bool
) -> int:
    """Send again what the filters let through; the exit status."""
    wanted = _wanted(opened, config, filters)
    sendable = [each for each in wanted if each.retries < MAX_RETRIES]
    for letter in wanted:
        if letter.retries >= MAX_RETRIES:
            say(f"letter {letter.letter_id}: failed again {letter.retries} times: left")
    sent = 0
    with closing(Resender(config)) as resender:
        for at in range(0, len(sendable), _AT_ONCE):
            some = sendable[at : at + _AT_ONCE]
            originals = resender.again([_again(opened, letter) for letter in some])
            outcomes = originals if dry_run else resender.send(originals)
            for letter, outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, Unsent):
                    say(f"letter {letter.letter_id}: {outcome.reason}")
                    continue
                sent += 1
                if not isinstance(outcome, Again):
                    _mark(opened, letter, outcome)
            opened.commit()
    unsent = len(wanted) - sent
    say(f"{sent} {'payload' if sent == 1 else 'payloads'} {'would be ' if dry_run else ''}sent again, {unsent} not")
    return 1 if unsent else 0


def _wanted(opened: connection, config: StreamConfig, filters: Filters) -> Sequence[Letter]:
    """A letter for each record, the oldest first: a payload's letters are sent, and marked, together."""
    found = letters(opened, config.topics.payloads, replace(filters, untried=True))
    return list({letter.record: letter for letter in reversed(found)}.values())


def _again(opened: connection, letter: Letter) -> Again:
    received_ms = None if letter.received_at is None else round(letter.received_at.timestamp() * 1000)
    payload = payload_of(opened, letter)
    whole = payload if payload is not None and len(payload) < KEPT_PAYLOAD_BYTES else None
    at = letter.kafka_topic, letter.kafka_partition, letter.kafka_offset
    return Again(*at, received_ms, letter.mqtt_topic, whole, letter.retries + 1)


def _mark(opened: connection, letter: Letter, where: tuple[int, int]) -> None:
    with opened.cursor() as cursor:
        cursor.execute(_RETRIED, (*where, letter.retries + 1, *letter.record))
