"""Which batches of each node came, and which did not: into `node_epoch` and `gap`, in the transaction of their records.

Nodes number their batches without holes, so whatever is missing between two that came was lost, or is still on its way.
Almost always a micro-batch continues where the last one ended: those epochs are brought up to date by one statement,
and only the others are looked at record by record.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow.compute as pc
from psycopg2.extras import execute_values

from stream.ingest.batch import to_numpy
from stream.ingest.epoch import GRACE_MS, Account, Filled, Hole
from stream.ingest.events import NodeEvent, store_events
from stream.ingest.presence import utc
from stream.ingest.rows import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

    from stream.ingest.batch import Batch
    from stream.ingest.epoch import GapRow

logger = logging.getLogger(__name__)

# A spool has four epochs, and a node a new spool only after an accident; a node that makes them up loses only its own
# accounting. Those that are no longer of interest an operator may delete.
MAX_EPOCHS: Final = 256
# Holes of nodes that fell silent, told in one transaction.
_SILENT_AT_ONCE: Final = 1000
_SEPARATOR: Final = "\x1f"

# With no hole, and none made: that is what is true of a node that is well. Or with holes that this changes nothing of,
# told and given up all of them: they stay for good, and every node that was there before its database has one.
_CONTINUE: Final = """
update node_epoch e set newest = c.last, newest_ms = c.last_ms,
  heard_at = greatest(e.heard_at, 'epoch'::timestamptz + c.heard_ms * interval '1 ms'),
  oldest_first = least(e.oldest_first, c.lowest), oldest = greatest(e.oldest, c.highest)
from unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::bigint[])
  as c (group_id, node_id, epoch, first, last, last_ms, heard_ms, lowest, highest)
where (e.group_id, e.node_id, e.epoch) = (c.group_id, c.node_id, c.epoch) and e.newest = c.first - 1
  and (e.holes = '[]' or (e.undelivered = 0 and e.pending_since is null and c.lowest >= e.oldest_first))
returning e.group_id, e.node_id, e.epoch
"""
_COLUMNS: Final = (
    "newest, newest_ms, (extract(epoch from heard_at) * 1000)::bigint, oldest_first, oldest, holes, filled"
)
_LOOK_UP: Final = f"""
select e.group_id, e.node_id, e.epoch, {_COLUMNS}
from node_epoch e join (values %s) as c (group_id, node_id, epoch) using (group_id, node_id, epoch)
"""  # noqa: S608 - our own columns
_SILENT: Final = f"""
select group_id, node_id, epoch, {_COLUMNS} from node_epoch where pending_since <= %s order by pending_since limit %s
"""  # noqa: S608 - our own columns
_COUNT: Final = """
select group_id, node_id, count(*) from node_epoch join (values %s) as c (group_id, node_id) using (group_id, node_id)
group by group_id, node_id
"""
_STORE: Final = """
insert into node_epoch (group_id, node_id, epoch, newest, newest_ms, heard_at, oldest_first, oldest, earlier, given_up,
                        undelivered, holes, filled, pending_since) values %s
on conflict (group_id, node_id, epoch) do update set newest = excluded.newest, newest_ms = excluded.newest_ms,
  heard_at = excluded.heard_at, oldest_first = excluded.oldest_first, oldest = excluded.oldest,
  earlier = excluded.earlier, given_up = excluded.given_up, undelivered = excluded.undelivered,
  holes = excluded.holes, filled = excluded.filled, pending_since = excluded.pending_since
"""
_NO_GAP: Final = """
delete from gap g using (values %s) as c (group_id, node_id, epoch, first_batch)
where (g.group_id, g.node_id, g.epoch, g.first_batch) = (c.group_id, c.node_id, c.epoch, c.first_batch)
  and g.kind = 'undelivered'
"""
_GAP: Final = """
insert into gap (group_id, node_id, device_id, kind, epoch, first_batch, last_batch, batches, state, from_at, to_at,
                 declared_at, closed_at, reason) values %s
on conflict (group_id, node_id, epoch, first_batch) where kind = 'undelivered' do update set
  last_batch = excluded.last_batch, batches = excluded.batches, state = excluded.state, from_at = excluded.from_at,
  to_at = excluded.to_at, declared_at = excluded.declared_at, closed_at = excluded.closed_at, reason = excluded.reason
"""
_REASONS: Final = {
    "open": "not delivered yet",
    "given_up": "no longer kept by the node, and never came",
    "earlier": "gone before the first message that came of this epoch",
    "filled": "came late",
}


class EpochKey(NamedTuple):
    """Which sequence of batches."""

    group_id: str
    node_id: str
    epoch: int


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """The stamps in a batch, by epoch and there in Kafka's order.

    `keys`: each epoch once; `starts` int64 [epochs], where its stamps begin among the n. `batch_no`, `oldest` (0 where
    it was not told), `received_at_ms`: int64 [n].
    """

    keys: tuple[EpochKey, ...]
    starts: NDArray[np.int64]
    batch_no: NDArray[np.int64]
    oldest: NDArray[np.int64]
    received_at_ms: NDArray[np.int64]

    def of(self, place: int) -> Iterator[tuple[int, int, int]]:
        """Batch, oldest and time of each stamp of an epoch."""
        end = self.starts[place + 1] if place + 1 < len(self.starts) else len(self.batch_no)
        span = slice(self.starts[place], end)
        columns = self.batch_no[span], self.oldest[span], self.received_at_ms[span]
        return zip(*(column.tolist() for column in columns), strict=True)

    def continuing(self) -> list[list[Any]]:
        """The rows of `_CONTINUE`, by column, of the epochs whose batches follow each other."""
        last = np.append(self.starts[1:], len(self.batch_no)) - 1
        follows = np.diff(self.batch_no, prepend=0) == 1
        follows[self.starts] = True
        lowest = np.minimum.reduceat(self.oldest, self.starts)
        wanted = np.flatnonzero(np.logical_and.reduceat(follows, self.starts) & (lowest > 0))
        columns = (
            self.batch_no[self.starts],
            self.batch_no[last],
            self.received_at_ms[last],
            np.maximum.reduceat(self.received_at_ms, self.starts),
            lowest,
            np.maximum.reduceat(self.oldest, self.starts),
        )
        keys = [self.keys[place] for place in wanted.tolist()]
        return [*(list(names) for names in zip(*keys, strict=True)), *(column[wanted].tolist() for column in columns)]


def store_continuity(cursor: cursor, batch: Batch) -> None:
    """Bring the accounts of the batch's epochs up to date, and tell holes that have been there for long enough."""
    records = batch.of(Record)
    stamps = stamps_of(records)
    if stamps is not None:
        continued = _continue(cursor, stamps)
        left = {key: place for place, key in enumerate(stamps.keys) if key not in continued}
        accounts = _accounts(cursor, sorted(left)) if left else {}
        for key, (_, account) in accounts.items():
            for batch_no, oldest, at_ms in stamps.of(left[key]):
                account.take(batch_no, oldest or None, at_ms)
        _store(cursor, accounts)
    now_ms = pc.max(records["received_at_ms"]).as_py()
    if now_ms is not None:
        _tell_of_the_silent(cursor, now_ms)


def stamps_of(records: pa.Table) -> Stamps | None:
    """The stamps of records; None where there is none."""
    stamped = records.filter(pc.is_valid(records["batch_no"])).sort_by(
        [(name, "ascending") for name in ("kafka_topic", "kafka_partition", "kafka_offset")]
    )
    if not stamped.num_rows:
        return None
    names = (stamped["group_id"], stamped["node_id"], stamped["epoch"].cast("string"))
    encoded = pc.binary_join_element_wise(*names, _SEPARATOR).combine_chunks().dictionary_encode()
    places = to_numpy(encoded.indices, np.int64)
    order = np.argsort(places, kind="stable")
    starts = np.cumsum(np.bincount(places)) - np.bincount(places)
    columns = (stamped["batch_no"], stamped["oldest"].fill_null(0), stamped["received_at_ms"])
    keys = tuple(map(_key, encoded.dictionary.to_pylist()))
    return Stamps(keys, starts, *(to_numpy(column, np.int64)[order] for column in columns))


def _key(joined: str) -> EpochKey:
    group_id, node_id, epoch = joined.split(_SEPARATOR)
    return EpochKey(group_id, node_id, int(epoch))


def _continue(cursor: cursor, stamps: Stamps) -> set[EpochKey]:
    """Which epochs are brought up to date by that they only go on."""
    columns = stamps.continuing()
    if not columns[-1]:
        return set()
    cursor.execute(_CONTINUE, columns)
    return set(map(EpochKey._make, cursor.fetchall()))


_Accounts = dict[EpochKey, tuple[list["GapRow"], Account]]
"""By epoch: the gaps as they stand in the database, and the account."""


def _accounts(cursor: cursor, keys: Sequence[EpochKey]) -> _Accounts:
    """The accounts of epochs, new ones where there are none; without those of nodes that have too many."""
    found = _read(execute_values(cursor, _LOOK_UP, keys, page_size=10_000, fetch=True))
    new = [key for key in keys if key not in found]
    if new:
        nodes = sorted({key[:2] for key in new})
        counts = Counter({row[:2]: row[2] for row in execute_values(cursor, _COUNT, nodes, fetch=True)})
        for key in new:
            counts[key[:2]] += 1
            if counts[key[:2]] <= MAX_EPOCHS:
                found[key] = ([], Account(key.epoch))
        _tell_of_too_many(cursor, [node for node, count in sorted(counts.items()) if count > MAX_EPOCHS])
    return found


def _read(rows: Iterable[tuple[Any, ...]]) -> _Accounts:
    found: _Accounts = {}
    for group_id, node_id, epoch, newest, newest_ms, heard_ms, oldest_first, oldest, holes, filled in rows:
        spans = [Hole(*span) for span in holes], [Filled(*span) for span in filled]
        account = Account(epoch, newest, newest_ms, heard_ms, oldest_first, oldest, *spans)
        found[EpochKey(group_id, node_id, epoch)] = (list(account.gaps()), account)
    return found


def _tell_of_the_silent(cursor: cursor, now_ms: int) -> None:
    """Tell the holes of nodes that have said nothing since, by the time of all others."""
    cursor.execute(_SILENT, (now_ms - GRACE_MS, _SILENT_AT_ONCE))
    silent = _read(cursor.fetchall())
    for _, account in silent.values():
        account.tell(now_ms)
    _store(cursor, silent)


def _store(cursor: cursor, accounts: _Accounts) -> None:
    if not accounts:
        return
    execute_values(cursor, _STORE, [_account_row(key, account) for key, (_, account) in accounts.items()])
    gone, changed = [], []
    for key, (before, account) in accounts.items():
        gaps = {gap.first: gap for gap in account.gaps()}
        gone += [(*key, gap.first) for gap in before if gap.first not in gaps]
        changed += [_gap_row(key, gap) for gap in sorted(set(gaps.values()) - set(before))]
    if gone:
        execute_values(cursor, _NO_GAP, gone)
    execute_values(cursor, _GAP, changed)


def _account_row(key: EpochKey, account: Account) -> tuple[object, ...]:
    missing = account.missing()
    return (
        *key,
        account.newest,
        account.newest_ms,
        utc(account.heard_ms),
        account.oldest_first,
        account.oldest,
        missing["earlier"],
        missing["given_up"],
        missing["open"],
        json.dumps([astuple(hole) for hole in account.holes]),
        json.dumps([astuple(part) for part in account.filled]),
        account.pending_since_ms(),
    )


def _gap_row(key: EpochKey, gap: GapRow) -> tuple[object, ...]:
    which = f"batch {gap.first}" if gap.first == gap.last else f"batches {gap.first} to {gap.last}"
    if gap.batches <= gap.last - gap.first:
        which = f"{gap.batches} of {which}"
    return (
        key.group_id,
        key.node_id,
        "",
        "undelivered",
        key.epoch,
        *gap[:4],
        *map(utc, gap[4:]),
        f"epoch {key.epoch}, {which}: {_REASONS[gap.state]}",
    )


def _tell_of_too_many(cursor: cursor, nodes: Sequence[tuple[str, str]]) -> None:
    for group_id, node_id in nodes:
        detail = {"limit": MAX_EPOCHS}
        if store_events(cursor, [NodeEvent(group_id, node_id, "", "", "epoch_limit", detail)]):
            logger.warning(
                "node %s/%s has sent more than %d epochs: new ones are stored, but not accounted for",
                group_id,
                node_id,
                MAX_EPOCHS,
            )
