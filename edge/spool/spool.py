"""The spool as the agent sees it: give it batches at any time, it commits them in groups from a thread of its own.

`put` never blocks and never fails. While the disk takes nothing, batches wait in a bounded buffer; what no longer fits
there is counted, and declared as a gap once the disk works again. SQLite blocks, so that one thread alone uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from edge.errors import SpoolError
from edge.spool.directory import count_set_aside
from edge.spool.file import FileLimits, SpoolFile
from edge.spool.inbox import Inbox
from edge.spool.keeper import Beginning, Keeper, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from contract.delivery import BatchId, Gap
    from edge.batch import Batch
    from edge.lane import Lane
    from edge.sources.base import Clock
    from edge.spool.sequence import Extent, StoredBatch

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much the spool keeps, on disk and in memory while the disk takes nothing, and how it groups commits.

    It grows no further where less than `min_free_bytes` would be left to others.
    """

    max_bytes: int
    buffer_bytes: int
    commit_interval_s: float
    min_free_bytes: int = 0


class Spool:
    """The node's spool in a directory. `declare` makes the batch that declares a device's gap.

    `start` and `close` frame its life; `on_commit` is called in the event loop after every commit of batches.
    `booted_ms` says when (UTC ms) the machine was booted, None while that is not known: what is put until then is in
    times since boot, and kept undated. Where a spool cannot be read at all, the loss is declared for `devices`.
    """

    def __init__(  # noqa: PLR0913 - the last ones are for the agent alone
        self,
        directory: Path,
        limits: SpoolLimits,
        now_ms: Clock,
        declare: Callable[[str, Gap], Batch],
        on_commit: Callable[[], object] = lambda: None,
        *,
        booted_ms: Callable[[], int | None] = lambda: 0,
        devices: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._on_commit = on_commit
        self._loop: asyncio.AbstractEventLoop
        self._inbox = Inbox(limits.buffer_bytes, limits.commit_interval_s, booted_ms)
        file_limits = FileLimits(limits.max_bytes, limits.min_free_bytes)
        around = Surroundings(directory, file_limits, now_ms, booted_ms, declare, tuple(devices), self._committed)
        self._keeper = Keeper(around, self._inbox)
        self._opened: Future[Beginning] = Future()
        self._thread = threading.Thread(target=self._keeper.work, args=[self._opened], name="spool", daemon=True)

    async def start(self) -> Beginning:
        """Opens the spool; raises SpoolError where no file can be kept at all."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return await asyncio.wrap_future(self._opened)

    def put(self, batch: Batch) -> None:
        """Takes a batch; it is on the disk within the commit interval, or as soon as the disk works."""
        self._inbox.put(batch)

    def divert(self, away: bool) -> None:  # noqa: FBT001 - whether the uplink is away, and nothing else
        """Says whether nothing can be delivered: live batches put from now on are then kept for replay."""
        self._inbox.divert(away)

    def forget(self, through: BatchId) -> None:
        """Every batch of a lane (the epoch says which) up to this one is durable.

        They are deleted with the next commit of batches, or within 2 s.
        """
        self._inbox.forget(through)

    @property
    def buffered(self) -> int:
        """How many batches wait in memory for the disk."""
        return self._inbox.buffered

    @property
    def dropped_batches(self) -> int:
        """How many batches were lost while the disk failed."""
        return self._inbox.dropped_batches

    @property
    def fault(self) -> str | None:
        """Why the disk takes nothing, while it does not."""
        return self._keeper.fault

    @property
    def evicted_batches(self) -> int:
        """How many batches were lost for want of room on the disk."""
        return self._keeper.evicted_batches

    @property
    def held(self) -> Mapping[Lane, Extent]:
        """What was on the disk in each lane after the last commit, the most urgent first; nobody has to be asked."""
        return self._keeper.held.extents

    @property
    def depth(self) -> int:
        """How many batches were on the disk after the last commit."""
        return sum(extent.depth for extent in self.held.values())

    @property
    def undated_batches(self) -> int:
        """How many batches wait on the disk until it is known what time it is."""
        return self._keeper.undated_batches

    @property
    def set_aside(self) -> int:
        """How many spoilt files lie beside the spool."""
        return count_set_aside(self._directory)

    async def read_from(self, lane: Lane, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches of a lane from a number on, in order; raises SpoolError."""
        if batches := self._keeper.held.read_from(lane, batch_no, limit):
            return batches
        return await self._call(lambda file: self._keeper.read_from(file, lane, batch_no, limit))

    async def extents(self) -> Mapping[Lane, Extent]:
        """What is on the disk in each lane, the most urgent first; raises SpoolError."""
        return await self._call(SpoolFile.extents)

    async def renew_epoch(self, epoch: int) -> None:
        """Goes on under higher epochs where one of its lanes has the one given, with the same batches.

        Raises SpoolError.
        """
        await self._call(lambda file: self._keeper.renew(file, epoch))

    async def next_bd_seq(self) -> int:
        """The number of the next connection's birth and death, 0 to 255 and round again; raises SpoolError."""
        return await self._call(SpoolFile.next_bd_seq)

    async def flush(self) -> None:
        """Returns when what was put before has been committed, or has been tried once where the disk does not work."""
        self._inbox.hurry()
        await self._call(lambda _file: None)

    async def close(self, *, clean: bool) -> None:
        """Commits what is pending, and ends; `clean` says that the agent stopped by its own will."""
        self._inbox.close(clean=clean)
        await asyncio.to_thread(self._thread.join)

    def _committed(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended before the spool's thread
            self._loop.call_soon_threadsafe(self._on_commit)

    async def _call(self, task: Callable[[SpoolFile], ResultT]) -> ResultT:
        """Runs a task on the file in the spool's thread."""
        future: Future[ResultT] = Future()

        def run(file: SpoolFile) -> SpoolError | None:
            if not future.set_running_or_notify_cancel():
                return None
            try:
                future.set_result(task(file))
            except Exception as exc:  # noqa: BLE001 - whatever it is belongs to the caller; the thread goes on
                future.set_exception(exc)
                return exc if isinstance(exc, SpoolError) else None
            return None

        self._inbox.ask(run)
        return await asyncio.wrap_future(future)
