from __future__ import annotations

import random
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from contract.delivery import BatchId, Gap
from contract.records import RecordHeaders
from stream.ingest.batch import Batch
from stream.ingest.sink import BatchKey
from stream.ingest.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.ingest.decode import KafkaRecord
    from tests.stream.conftest import Database

    Make = Callable[..., KafkaRecord]

NOW = 1_700_000_000_000
TABLES = {
    "readings": "select s.node_id, s.metric, s.version, s.unit, r.sampled_at, r.value from reading r "
    "join series s using (series_id) order by 1, 2, 5",
    "texts": "select s.node_id, s.metric, r.sampled_at, r.value from reading_text r join series s using (series_id) "
    "order by 1, 2, 3",
    "letters": "select kafka_offset, item, reason, received_at, payload is null from dead_letter order by 1, 2",
    "gaps": "select node_id, kind, epoch, first_batch, last_batch, batches, state, from_at, to_at, reason from gap "
    "where state is distinct from 'filled' order by node_id, kind, first_batch, from_at",
    "accounts": "select node_id, epoch, newest, oldest_first, oldest, earlier, given_up, undelivered, heard_at "
    "from node_epoch order by 1, 2",
    "accounting": "select * from node_accounting order by 1, 2",
    "nodes": "select node_id, first_seen_at, last_seen_at, online from node order by 1",
}


def log(make: Make) -> list[KafkaRecord]:
    """Two nodes: births, numbers, texts, poison, a declared gap, batches that never came or come late."""
    dice = random.Random(5)
    records: list[KafkaRecord] = []

    def say(at_s: float, batch_no: int | None = None, oldest: int | None = None, **message: Any) -> None:
        made = make(offset=len(records), received_at_ms=NOW + round(at_s * 1000), **message)
        headers = RecordHeaders.from_kafka(made.headers)  # type: ignore[arg-type]  # the fixture's all have values
        batch = None if batch_no is None else BatchId(NOW - 1000, batch_no)
        stamped = RecordHeaders(headers.topic, headers.received_at_ms, batch, None, oldest)
        records.append(replace(made, headers=tuple(stamped.to_kafka())))

    for node in ("a", "b"):
        say(0, node=node, kind="NBIRTH")
        say(0.1, node=node, kind="DBIRTH", values={"level": 1.0, "state": "x"})
        for no in range(2, 40):
            if dice.random() < 0.2:
                continue
            at_s = no + dice.choice((0, 0, 50))
            oldest = max(1, no - dice.randint(5, 15))
            values = {"level": float(no), "state": f"s{no}", "broken": float("nan") if no % 7 == 0 else 1.0}
            say(at_s, no, oldest, node=node, values=values, sampled_at_ms=NOW + no * 1000)
        say(41, 41, 30, node=node, payload=b"\xff")
        say(42, 42, 30, node=node, metrics=[Gap(NOW, NOW + 9, "spool full").to_metric(NOW)])
    say(1000, node="c", values={"level": 1.0})
    return records


@pytest.fixture
def writer(migrated: Database) -> Iterator[Writer]:
    with closing(Writer(migrated.writer, threading.Event())) as writer:
        yield writer


def test_any_order_any_repetition_and_any_cut_give_the_same_tables(
    migrated: Database, writer: Writer, payload_record: Make, table_of: Callable[..., Any]
) -> None:
    records, dice = log(payload_record), random.Random(1)
    end = records[-1]
    found: list[dict[str, list[tuple[Any, ...]]]] = []
    for query in range(4):
        left = list(records)
        if query:
            left += dice.sample(records, len(records) // 3)
            dice.shuffle(left)
        batches = [left] if query == 3 else []  # the last time all in one
        while left and query != 3:
            size = dice.randint(1, 40)
            batches.append(left[:size])
            left = left[size:]
        # The last record of all once more: it tells how late it is for nodes that fell silent.
        for n, batch in enumerate([*batches, [end]]):
            writer.write(BatchKey(UUID(int=query), n), Batch(table_of(*batch)))
        found.append({name: migrated.rows(statement) for name, statement in TABLES.items()})
        migrated.run(
            "truncate reading, reading_text, series, dead_letter, gap, node_epoch, node, node_status restart identity"
        )
        writer.close()
    for name in TABLES:
        assert found[0][name], name
        assert [each[name] for each in found[1:]] == [found[0][name]] * 3, name
