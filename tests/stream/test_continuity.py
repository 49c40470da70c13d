from __future__ import annotations

import random
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pyarrow as pa
import pytest

from stream.ingest.batch import Batch
from stream.ingest.continuity import MAX_EPOCHS, store_continuity
from stream.ingest.epoch import GRACE_MS
from stream.ingest.rows import SCHEMA, Record, to_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.stream.conftest import Database

NOW = 1_700_000_000_000
EPOCH = NOW - 1000
STANDING = "state, first_batch, last_batch, batches, from_at, to_at, reason, node_id, epoch"


def at(after_s: float) -> datetime:
    return datetime.fromtimestamp(NOW / 1000, UTC) + timedelta(seconds=after_s)


class Log:
    """A Kafka partition: `say` appends a stamped record, `at_s` after NOW."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def say(self, batch_no: int, at_s: float, oldest: int | None = 1, node: str = "n", epoch: int = EPOCH) -> Log:
        at_ms = NOW + round(at_s * 1000)
        self.records.append(Record("t", 0, len(self.records), "g", node, at_ms, epoch, batch_no, oldest))
        return self

    def of_others(self, at_s: float) -> Log:
        """A record of another node, without a stamp."""
        self.records.append(Record("t", 0, len(self.records), "g", "other", NOW + round(at_s * 1000)))
        return self


class Store:
    """Stores records in a transaction of their own, as the writer would."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._opened = psycopg2.connect(database.writer)

    def __call__(self, records: Iterable[Record]) -> None:
        table = pa.Table.from_batches(to_batches(records), SCHEMA)
        with self._opened.cursor() as cursor:
            store_continuity(cursor, Batch(table))
        self._opened.commit()

    def close(self) -> None:
        self._opened.close()

    def gaps(self, columns: str = "first_batch, last_batch, state", where: str = "true") -> list[tuple[Any, ...]]:
        return self.database.rows(
            f"select {columns} from gap where kind = 'undelivered' and {where} order by node_id, epoch, first_batch"
        )

    def accounts(self) -> list[tuple[Any, ...]]:
        return self.database.rows(
            "select node_id, epoch, newest, oldest_first, oldest, earlier, given_up, undelivered, heard_at "
            "from node_epoch order by node_id, epoch"
        )


@pytest.fixture
def store(migrated: Database) -> Iterator[Store]:
    with closing(Store(migrated)) as opened:
        yield opened


def test_a_hole_opens_a_gap_and_closes_it_when_filled(store: Store) -> None:
    log = Log().say(1, 0).say(2, 1).say(5, 2)
    store(log.records)
    assert store.gaps() == [], "not yet"
    assert store.accounts()[0][:8] == ("n", EPOCH, 5, 1, 1, 0, 0, 2)
    store(Log().say(6, 40).records)
    assert store.gaps("first_batch, last_batch, batches, state, from_at, to_at, declared_at, closed_at, reason") == [
        (3, 4, 2, "open", at(1), at(2), at(32), None, f"epoch {EPOCH}, batches 3 to 4: not delivered yet")
    ]
    store(Log().say(4, 50).records)
    assert store.gaps() == [(3, 3, "open"), (4, 4, "filled")]
    store(Log().say(3, 51).records)
    assert store.gaps("first_batch, last_batch, state, from_at, to_at, closed_at") == [
        (3, 4, "filled", at(1), at(2), at(51))
    ]
    assert store.accounts()[0][:8] == ("n", EPOCH, 6, 1, 1, 0, 0, 0)


def test_a_hole_of_a_node_that_falls_silent_is_told_by_the_time_of_the_others(store: Store) -> None:
    store(Log().say(1, 0).say(3, 1).records)
    store(Log().of_others(1 + GRACE_MS / 1000 - 0.001).records)
    assert store.gaps() == []
    store(Log().of_others(1 + GRACE_MS / 1000).records)
    assert store.gaps() == [(2, 2, "open")]


def test_what_was_evicted_is_given_up_beside_the_nodes_own_word(store: Store, migrated: Database) -> None:
    store(Log().say(1, 0).say(10, 1).say(11, 50, oldest=8).records)
    assert store.gaps() == [(2, 7, "given_up"), (8, 9, "open")]
    migrated.run(
        "insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at) "
        "values ('g', 'n', 'd', now(), now(), 'spool full', now())"
    )
    assert migrated.rows(
        "select produced, stored, missing, undelivered, given_up, earlier, declared_gaps from node_accounting"
    ) == [(11, 3, 8, 2, 6, 0, 1)]


def test_each_lane_has_an_account_of_its_own(store: Store) -> None:
    log = Log()
    for lane in range(4):
        log.say(1, 0, epoch=EPOCH + lane).say(2 + lane, 1, epoch=EPOCH + lane)
    store(log.of_others(100).records)
    assert [row[:3] for row in store.accounts()] == [("n", EPOCH + lane, 2 + lane) for lane in range(4)]
    assert store.gaps("epoch, first_batch, last_batch") == [(EPOCH + lane, 2, 1 + lane) for lane in range(1, 4)]


def test_a_node_that_makes_up_epochs_is_bounded_and_told_once(store: Store, migrated: Database) -> None:
    log = Log()
    for n in range(MAX_EPOCHS + 50):
        log.say(1, n, epoch=EPOCH + n)
    log.say(1, 0, node="honest")
    store(log.records[:200])
    store(log.records[200:])
    store(log.records[200:])
    assert migrated.one("select count(*) from node_epoch where node_id = 'n'") == MAX_EPOCHS
    assert migrated.one("select count(*) from node_epoch where node_id = 'honest'") == 1
    assert migrated.rows("select node_id, kind, detail from node_event") == [
        ("n", "epoch_limit", {"limit": MAX_EPOCHS})
    ]


def fleet(seed: int) -> list[Record]:
    """A log of three nodes of two lanes: losses, batches in another order, and some twice."""
    dice = random.Random(seed)
    log = Log()
    sent: list[tuple[float, int, int, str, int]] = []
    for node in ("a", "b", "c"):
        for lane in range(2):
            oldest = 1
            for no in range(1, 40):
                oldest = max(oldest, no - dice.randint(3, 20))
                if dice.random() < 0.15:
                    continue
                for _ in range(1 + (dice.random() < 0.1)):
                    late_s = dice.choice((0, 0, 0, 5, 60))
                    sent.append((no * 2 + late_s + dice.random(), no, oldest, node, EPOCH + lane))
    for at_s, no, oldest, node, epoch in sorted(sent):
        log.say(no, at_s, oldest, node, epoch)
    return log.records


def cut(records: list[Record], dice: random.Random) -> Iterator[list[Record]]:
    while records:
        size = dice.randint(1, 60)
        yield records[:size]
        records = records[size:]


@pytest.mark.parametrize("seed", [1, 2])
def test_however_the_log_is_cut_and_replayed_the_rows_are_the_same(store: Store, migrated: Database, seed: int) -> None:
    records, dice = fleet(seed), random.Random(seed)
    end = Log().of_others(1000).records
    found = []
    for _ in range(2):
        migrated.run("truncate node_epoch, gap")
        for batch in cut(records, dice):
            store(batch)
            if dice.random() < 0.3:
                store(batch)
        store(end)
        found.append((store.accounts(), store.gaps("*"), store.gaps("*", "state <> 'filled'")))
    assert found[0] == found[1]
    assert {row[0] for row in store.gaps("state")} >= {"given_up", "filled"}
    migrated.run("truncate node_epoch, gap")
    store([*records, *end])
    assert (store.accounts(), store.gaps("*")) == found[0][:2], "in one batch"
    # From the beginning again, as with a new checkpoint: what stands stays; what came before is but seen again.
    for batch in cut(records, dice):
        store(batch)
    assert (store.accounts(), store.gaps("*")) == found[0][:2]


def test_whatever_the_order_what_is_missing_is_the_same(store: Store, migrated: Database) -> None:
    records, dice = fleet(3), random.Random(3)
    found = []
    for _ in range(3):
        migrated.run("truncate node_epoch, gap")
        for batch in cut(records, dice):
            store(batch)
        store(Log().of_others(1000).records)
        found.append((store.accounts(), store.gaps(STANDING, "state <> 'filled'")))
        dice.shuffle(records)
        records = [record._replace(kafka_offset=n) for n, record in enumerate(records)]
    assert found[0] == found[1] == found[2]
    assert len(found[0][1]) > 5


def test_what_is_given_up_for_good_costs_nothing_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store(Log().say(5, 0, oldest=3).say(6, 40, oldest=6).say(7, 41, oldest=6).records)
    gone = [(1, 2, "earlier"), (3, 4, "given_up")]
    assert store.gaps() == gone
    with monkeypatch.context() as only_by_statement:
        only_by_statement.delattr("stream.ingest.continuity._accounts")
        store(Log().say(8, 42, oldest=8).say(9, 43, oldest=8).records)
    assert store.gaps() == gone
    assert store.accounts()[0][:8] == ("n", EPOCH, 9, 3, 8, 2, 2, 0)
    store(Log().say(10, 44, oldest=2).records)
    assert store.gaps() == [(1, 1, "earlier"), (2, 4, "given_up")], "the word of another oldest is still heard"


def test_a_thousand_nodes_cost_a_few_milliseconds(store: Store) -> None:
    logs = []
    for n in range(1, 8):
        log = Log()
        for node in range(1000):
            log.say(n, n, node=f"node-{node}")
        logs.append(log.records)
    tables = [Batch(pa.Table.from_batches(to_batches(records), SCHEMA)) for records in logs]
    costs = []
    for table in tables:
        with store._opened.cursor() as cursor:
            begun = time.perf_counter()
            store_continuity(cursor, table)
            costs.append(time.perf_counter() - begun)
            store._opened.commit()
    # Measured on two busy cores: 6 ms of ours, 20 of the database.
    assert min(costs[1:]) < 0.1
    assert store.database.one("select sum(newest) from node_epoch") == 7000
