"""`python -m stream deadletter`: what was set aside, and another try for it."""

from __future__ import annotations

import argparse
import json
import re
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from contract.config import ConfigError
from contract.errors import CodecError
from contract.sparkplug import decode
from stream.connection import connect, translated
from stream.ingest.decode import KEPT_PAYLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from psycopg2.extensions import connection

    from stream.config import StreamConfig

MAX_RETRIES: Final = 3
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHOWN_BYTES: Final = 256

# A letter whose payload had been sent again before is found by where that went.
_SELECT: Final = """
select l.letter_id, l.kafka_topic, l.kafka_partition, l.kafka_offset, l.item, l.mqtt_topic, l.metric, l.reason,
       l.received_at, l.set_aside_at, l.retried_at, coalesce(p.retries, 0)
from dead_letter l
left join lateral (
  select max(o.retries) as retries from dead_letter o
  where o.retried_at is not null and o.retry_partition = l.kafka_partition and o.retry_offset = l.kafka_offset
    and l.kafka_topic = %(payloads)s and o.received_at is not distinct from l.received_at
) p on true
where (%(group)s::text is null or split_part(l.mqtt_topic, '/', 2) = %(group)s)
  and (%(node)s::text is null or split_part(l.mqtt_topic, '/', 4) = %(node)s)
  and (%(reason)s::text is null or strpos(lower(l.reason), lower(%(reason)s)) > 0)
  and (%(since)s::timestamptz is null or l.set_aside_at >= %(since)s)
  and (%(key)s::bigint is null or l.letter_id = %(key)s)
  and (not %(untried)s or l.retried_at is null)
order by l.set_aside_at desc, l.letter_id desc limit %(limit)s
"""
_PAYLOAD: Final = """
select payload from dead_letter
where (kafka_topic, kafka_partition, kafka_offset) = (%s, %s, %s) and received_at is not distinct from %s
  and payload is not null
limit 1
"""


class Letter(NamedTuple):
    """A row of `dead_letter`; `retries` is how often its payload had been sent again before it came to this."""

    letter_id: int
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    item: int
    mqtt_topic: str | None
    metric: str | None
    reason: str
    received_at: datetime | None
    set_aside_at: datetime
    retried_at: datetime | None
    retries: int

    @property
    def record(self) -> tuple[str, int, int, datetime | None]:
        """Which Kafka record it is of."""
        return self.kafka_topic, self.kafka_partition, self.kafka_offset, self.received_at

    def document(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in self._asdict().items()}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which letters; None takes all."""

    node: str | None = None
    reason: str | None = None
    since: datetime | None = None
    key: int | None = None
    untried: bool = False
    limit: int | None = None


def add_parser(commands: argparse._SubParsersAction[Any], epilog: str) -> None:
    """Add `deadletter` with its own commands."""
    letters = commands.add_parser("deadletter", help="what was set aside: list, show, retry", epilog=epilog)
    actions = letters.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="one line for each letter, the newest first", epilog=epilog)
    showing = actions.add_parser("show", help="a letter with its payload", epilog=epilog)
    retrying = actions.add_parser(
        "retry",
        help="send what was set aside to the payload topic again, after what made it fail was mended",
        description="The whole payload is sent: metrics that are stored already are dropped by the database's key. "
        f"It is read from Kafka where it still is. What failed again {MAX_RETRIES} times is left.",
        epilog=epilog,
    )
    for parser in (listing, showing, retrying):
        parser.add_argument("config", type=Path, help="the stream's YAML file")
    showing.add_argument("key", type=int, help="the letter's number, as list shows it")
    for parser, limit in ((listing, 50), (retrying, 1000)):
        parser.add_argument("--node", metavar="GROUP/NODE", help="of this node; GROUP/ is all nodes of a group")
        parser.add_argument("--reason", metavar="TEXT", help="whose reason contains this, in any case")
        parser.add_argument("--since", metavar="WHEN", help="set aside since: 90s, 30m, 2h, 7d, or a time in ISO 8601")
        parser.add_argument("--limit", type=_count, default=limit, metavar="N", help=f"at most so many ({limit})")
    listing.add_argument("--json", action="store_true", help="a JSON object on each line")
    retrying.add_argument("--dry-run", action="store_true", help="only say what would be sent")


def run(options: argparse.Namespace, config: StreamConfig, say: Callable[[str], None]) -> int:
    """Run the command, a line at a time to `say`; its exit status. Raises ConfigError and StreamError."""
    with closing(connect(config.database.dsn())) as opened, translated(opened):
        if options.action == "show":
            return _show(opened, config, options.key, say)
        filters = Filters(options.node, options.reason, _since(options.since), limit=options.limit)
        if options.action == "list":
            return _list(letters(opened, config.topics.payloads, filters), say, as_json=options.json)
        # Kafka's client takes a moment to import, and is needed for nothing else.
        from stream.retry import retry  # noqa: PLC0415 - as above

        return retry(opened, config, filters, say, dry_run=options.dry_run)


def letters(opened: connection, payload_topic: str, filters: Filters) -> list[Letter]:
    """The letters that the filters let through, the newest first."""
    group, _, node = (filters.node or "").partition("/")
    values = {
        "payloads": payload_topic,
        "group": group or None,
        "node": node or None,
        "reason": filters.reason,
        "since": filters.since,
        "key": filters.key,
        "untried": filters.untried,
        "limit": filters.limit,
    }
    with opened.cursor() as cursor:
        cursor.execute(_SELECT, values)
        found = [Letter(*row) for row in cursor.fetchall()]
    opened.commit()
    return found


def payload_of(opened: connection, letter: Letter) -> bytes | None:
    """The payload as it is kept, perhaps cut; None where it is not."""
    with opened.cursor() as cursor:
        cursor.execute(_PAYLOAD, letter.record)
        row: Sequence[memoryview] | None = cursor.fetchone()
    return None if row is None else bytes(row[0])


def _list(found: Iterable[Letter], say: Callable[[str], None], *, as_json: bool) -> int:
    for letter in found:
        if as_json:
            say(json.dumps(letter.document()))
            continue
        what = letter.metric if letter.metric is not None else "(payload)"
        state = "" if letter.retried_at is None else f"  [sent again {letter.retried_at:%Y-%m-%d %H:%M}]"
        at = f"{letter.set_aside_at:%Y-%m-%d %H:%M:%S}"
        say(f"{letter.letter_id:>8}  {at}  {letter.mqtt_topic or '(no topic)'}  {what}  {letter.reason}{state}")
    return 0


def _show(opened: connection, config: StreamConfig, key: int, say: Callable[[str], None]) -> int:
    found = letters(opened, config.topics.payloads, Filters(key=key))
    if not found:
        say(f"there is no letter {key}")
        return 1
    for name, value in found[0].document().items():
        say(f"{name:<16} {'' if value is None else value}")
    payload = payload_of(opened, found[0])
    if payload is None:
        say("payload          not kept here; Kafka may still have it")
        return 0
    cut = " or more: it is cut" if len(payload) >= KEPT_PAYLOAD_BYTES else ""
    say(f"payload          {len(payload)} bytes{cut}\n{payload[:_SHOWN_BYTES].hex(' ')}")
    try:
        metrics = decode(payload).metrics
    except CodecError as exc:
        say(str(exc))
        return 0
    for metric in metrics:
        say(f"  {metric.name} {metric.datatype.name} {metric.value!r:.100} at {metric.timestamp_ms} ms")
    return 0


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    if (span := re.fullmatch(r"([0-9]{1,6})([smhd])", text)) is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--since {text!r}: allowed are 90s, 30m, 2h, 7d, or a time such as 2026-01-31T12:00Z"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are whole numbers from 1 on")
    return int(text)
