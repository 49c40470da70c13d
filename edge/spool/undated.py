"""Batches that wait for UTC: which were kept in which boot, when that was, and how they come into their lanes.

Whoever calls keeps the transactions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from contract.delivery import Gap
from edge.batch import Batch
from edge.spool.dating import dated, dated_gap, to_utc
from edge.spool.sequence import KeptBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edge.lane import Lane
    from edge.spool.eviction import Gaps
    from edge.spool.notes import Notes
    from edge.spool.sequence import BatchTable, StoredBatch

_DATED_AT_ONCE: Final = 64
_AT_BOOT_MS: Final = 1
_ESTIMATED: Final = "clock not set: times are estimates"


class Run(NamedTuple):
    """The batches of a table from `first_no` up to but not including `end_no`, all kept in one boot.

    They were kept after `after_ms`, which is UTC. `booted_ms` is when (UTC ms) that boot was, once that is known.
    """

    table: str
    first_no: int
    end_no: int
    boot_id: str
    after_ms: int
    booted_ms: int | None


class Undated:
    """The undated batches of all lanes."""

    def __init__(self, notes: Notes, tables: Mapping[Lane, BatchTable], boot_id: str) -> None:
        self._notes = notes
        self._tables = tables
        self._boot_id = boot_id

    @property
    def depth(self) -> int:
        """How many batches."""
        return sum(table.depth for table in self._tables.values())

    def keep(self, batches: Sequence[Batch], kept_ms: int, after_ms: int, boot_id: str | None = None) -> None:
        """Keeps batches of this boot, or of another one, in which nothing is older than `after_ms` (UTC)."""
        boot_id = boot_id or self._boot_id
        for lane, table in self._tables.items():
            if theirs := [KeptBatch(batch, kept_ms) for batch in batches if batch.lane is lane]:
                last = [run.boot_id for run in self._runs() if run.table == table.name][-1:]
                if last != [boot_id]:
                    self._note(Run(table.name, table.next_no, table.next_no, boot_id, after_ms, None))
                table.append(theirs)

    def _note(self, run: Run) -> None:
        self._notes.put("boot", f"{run.table} {run.first_no}", json.dumps([run.boot_id, run.after_ms, run.booted_ms]))

    def take_some(self, booted_ms: int) -> tuple[list[KeptBatch], dict[str, Gap]]:
        """Takes out some batches, dated, given when (UTC ms) this boot was; and what is to be declared.

        Those of this boot are exact. An earlier one ended, for all we know, as the next began: its good values
        are stale, and the time in which they must lie is a gap.
        """
        table = next((table for table in self._tables.values() if table.depth), None)
        if table is None:
            return [], {}
        self._estimate(booted_ms)
        oldest = table.oldest_no
        run = next(run for run in self._runs() if run.table == table.name and run.first_no <= oldest < run.end_no)
        stored = table.read_from(oldest, min(_DATED_AT_ONCE, run.end_no - oldest))
        table.delete_through(oldest + len(stored) - 1)
        at_ms, estimated = run.booted_ms or booted_ms, run.boot_id != self._boot_id
        self._forget_taken()
        taken = [_dated(row, table.lane, at_ms, estimated=estimated) for row in stored]
        gap = Gap(run.after_ms or at_ms, max(run.after_ms or at_ms, booted_ms), _ESTIMATED)
        return taken, dict.fromkeys([row.device for row in stored], gap) if estimated else {}

    def lost(self, table: str, gaps: Gaps, booted_ms: int | None) -> Iterator[tuple[str, Gap]]:
        """What is lost with the oldest batches of a table: those of an earlier boot lie somewhere before this one."""
        runs = [run for run in self._runs() if run.table == table and run.first_no < self._named(table).oldest_no]
        earlier = [run.after_ms for run in runs if run.boot_id != self._boot_id]
        for (device, _), gap in gaps.items():
            to_ms = gap.to_ms if len(earlier) < len(runs) else _AT_BOOT_MS
            known = Gap(min(earlier), to_ms, gap.reason) if earlier else gap
            yield device, known if booted_ms is None else dated_gap(known, booted_ms)
        self._forget_taken()

    def _forget_taken(self) -> None:
        for run in self._runs():
            if run.end_no <= self._named(run.table).oldest_no:
                self._notes.remove("boot", f"{run.table} {run.first_no}")

    def _named(self, name: str) -> BatchTable:
        return next(table for table in self._tables.values() if table.name == name)

    def _runs(self) -> list[Run]:
        """All runs, the boots in their order."""
        known = [(*key.split(), *json.loads(str(value))) for key, value in self._notes.all("boot").items()]
        runs = list[Run]()
        for name, first_no, *more in known:
            later = [int(other[1]) for other in known if other[0] == name and int(other[1]) > int(first_no)]
            runs.append(Run(name, int(first_no), min(later, default=self._named(name).next_no), *more))
        return runs

    def _estimate(self, booted_ms: int) -> None:
        """Notes when each boot was, once: as its batches are taken out, less is known of it."""
        runs = self._runs()
        at_ms = booted_ms
        for boot in reversed(list(dict.fromkeys(run.boot_id for run in runs))):
            if boot != self._boot_id:
                at_ms -= max(self._last_kept_ms(run) for run in runs if run.boot_id == boot)
            for run in runs:
                if run.boot_id == boot and run.booted_ms is None:
                    self._note(run._replace(booted_ms=at_ms))

    def _last_kept_ms(self, run: Run) -> int:
        last = self._named(run.table).read_from(run.end_no - 1, 1)
        return last[0].kept_ms


def _dated(row: StoredBatch, lane: Lane, booted_ms: int, *, estimated: bool) -> KeptBatch:
    batch = Batch(row.device, row.payload, row.from_ms, row.to_ms, lane)
    return KeptBatch(dated(batch, booted_ms, estimated=estimated), to_utc(row.kept_ms, booted_ms))
