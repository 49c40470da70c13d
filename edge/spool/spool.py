"""The spool as the agent sees it: give it batches at any time, it commits them in groups from a thread of its own.

`put` never blocks and never fails. While the disk takes nothing, batches wait in a bounded buffer; what no longer fits
there is counted, and declared as a gap once the disk works again. SQLite blocks, so that one thread alone uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from edge.clock import boot_id
from edge.errors import CorruptSpoolError, GarbledBatchError, SpoolError
from edge.lane import Lane
from edge.spool.buffer import Buffer
from edge.spool.chores import Chores
from edge.spool.dating import is_since_boot
from edge.spool.directory import count_set_aside, open_spool, set_aside
from edge.spool.file import FileLimits, SpoolFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from contract.delivery import BatchId, Gap
    from edge.batch import Batch
    from edge.sources.base import Clock
    from edge.spool.sequence import Extent, StoredBatch

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much the spool keeps, on disk and in memory while the disk takes nothing, and how it groups commits.

    It grows no further where less than `min_free_bytes` would be left to others.
    """

    max_bytes: int
    buffer_bytes: int
    commit_interval_s: float
    min_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Beginning:
    """What an earlier run left.

    Whether it stopped by its own will, and (UTC ms) when each device was last spooled, and anything at all.
    """

    epoch: int
    stopped_cleanly: bool
    last_sampled: dict[str, int]
    newest_kept_ms: int = 0
    spoilt_since_ms: int | None = None


class Spool:
    """The node's spool in a directory. `declare` makes the batch that declares a device's gap.

    `start` and `close` frame its life; `on_commit` is called from the spool's thread after every commit of batches.
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
        self.evicted_batches = 0
        self.undated_batches = 0
        self._directory = directory
        self._limits = FileLimits(limits.max_bytes, limits.min_free_bytes)
        self._commit_interval_s = limits.commit_interval_s
        self._now_ms = now_ms
        self._booted_ms = booted_ms
        self._declare = declare
        self._on_commit = on_commit
        self._devices = tuple(devices)
        self._changed = threading.Condition()
        self._buffer = Buffer(limits.buffer_bytes, booted_ms)
        # How many batches are being committed.
        self._in_hand = 0
        self._durable: dict[int, int] = {}
        self._away = False
        self._calls: deque[Callable[[SpoolFile], SpoolError | None]] = deque()
        self._commit_at = math.inf
        self._chores = Chores(directory, now_ms, booted_ms, declare, limits.max_bytes)
        self._chores_at = math.inf
        self._closing = False
        self._clean = False
        self._failing = False
        self._opened: Future[Beginning] = Future()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)

    async def start(self) -> Beginning:
        """Opens the spool; raises SpoolError where no file can be kept at all."""
        self._thread.start()
        return await asyncio.wrap_future(self._opened)

    def put(self, batch: Batch) -> None:
        """Takes a batch; it is on the disk within the commit interval, or as soon as the disk works."""
        with self._changed:
            if self._away and batch.lane is Lane.LIVE:
                batch = replace(batch, lane=Lane.BACKFILL)
            self._buffer.put(batch)
            self._commit_soon()

    def divert(self, away: bool) -> None:  # noqa: FBT001 - whether the uplink is away, and nothing else
        """Says whether nothing can be delivered: live batches put from now on are then kept for replay."""
        with self._changed:
            self._away = away

    def forget(self, through: BatchId) -> None:
        """Every batch of a lane (the epoch says which) up to this one is durable: deleted with the next commit."""
        with self._changed:
            self._durable[through.epoch] = max(through.batch_no, self._durable.get(through.epoch, 0))
            self._commit_soon()

    def _commit_soon(self) -> None:
        if not self._failing:
            self._commit_at = min(self._commit_at, time.monotonic() + self._commit_interval_s)
        self._changed.notify()

    @property
    def buffered(self) -> int:
        """How many batches wait in memory for the disk."""
        with self._changed:
            return len(self._buffer) + self._in_hand

    @property
    def dropped_batches(self) -> int:
        """How many batches were lost while the disk failed."""
        return self._buffer.dropped_batches

    @property
    def set_aside(self) -> int:
        """How many spoilt files lie beside the spool."""
        return count_set_aside(self._directory)

    async def read_from(self, lane: Lane, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches of a lane from a number on, in order; raises SpoolError."""
        return await self._call(lambda file: self._read_from(file, lane, batch_no, limit))

    async def extents(self) -> Mapping[Lane, Extent]:
        """What is on the disk in each lane, the most urgent first; raises SpoolError."""
        return await self._call(SpoolFile.extents)

    async def renew_epoch(self, epoch: int) -> None:
        """Goes on under higher epochs where one of its lanes has the one given, with the same batches.

        Raises SpoolError.
        """
        await self._call(lambda file: None if file.lane_of(epoch) is None else file.renew(self._now_ms()))

    async def next_bd_seq(self) -> int:
        """The number of the next connection's birth and death, 0 to 255 and round again; raises SpoolError."""
        return await self._call(SpoolFile.next_bd_seq)

    async def flush(self) -> None:
        """Returns when what was put before has been committed, or has been tried once where the disk does not work."""
        with self._changed:
            self._commit_at = 0.0
        await self._call(lambda _file: None)

    async def close(self, *, clean: bool) -> None:
        """Commits what is pending, and ends; `clean` says that the agent stopped by its own will."""
        with self._changed:
            self._closing = True
            self._clean = clean
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

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

        with self._changed:
            if self._closing:
                raise SpoolError("the spool is closed")
            self._calls.append(run)
            self._changed.notify()
        return await asyncio.wrap_future(future)

    # What follows runs in the spool's thread.

    def _open(self) -> SpoolFile:
        return open_spool(self._directory, self._limits, self._now_ms(), boot_id())

    def _work(self) -> None:
        try:
            file = self._open()
            if file.was_cut_off:
                # Were the last numbers lost with the power, what the bridge knows of them would be taken for new ones.
                file.renew(self._now_ms())
            self._chores.begin(file, None, self._devices)
            beginning = Beginning(file.base_epoch, file.stopped_cleanly, file.last_sampled(), file.newest_kept_ms)
        except Exception as exc:  # noqa: BLE001 - whatever it is belongs to `start`, which would wait for ever
            self._opened.set_exception(exc)
            return
        self._chores_at = 0.0
        self._opened.set_result(beginning)
        while not self._closing:
            file = self._serve(file)
        file = self._serve(file)
        self._finish(file)

    def _serve(self, file: SpoolFile) -> SpoolFile:
        """Waits for something to do and does it; returns the file to go on with."""
        batches, calls = self._wait()
        committed = None if batches is None else self._commit(file, batches)
        self._in_hand = 0
        faults = [committed, *(call(file) for call in calls), self._do_chores(file)]
        corrupt = next((fault for fault in faults if isinstance(fault, CorruptSpoolError)), None)
        return self._begin_anew(file, corrupt) if corrupt else file

    def _wait(self) -> tuple[list[Batch] | None, list[Callable[[SpoolFile], SpoolError | None]]]:
        """What is to be committed, None when it is not yet time, and what else is to be done."""
        with self._changed:
            while not (self._closing or self._calls or min(self._commit_at, self._chores_at) <= time.monotonic()):
                idle_s = min(self._commit_at, self._chores_at) - time.monotonic()
                self._changed.wait(None if math.isinf(idle_s) else max(idle_s, 0.0))
            calls = list(self._calls)
            self._calls.clear()
            if not self._closing and self._commit_at > time.monotonic():
                return None, calls
            self._commit_at = math.inf
            batches = self._buffer.take()
            self._in_hand = len(batches)
            return batches, calls

    def _commit(self, file: SpoolFile, batches: list[Batch]) -> SpoolError | None:
        """Commits batches and what was dropped before them; puts them back where the disk does not take them."""
        with self._changed:
            lost = self._buffer.take_lost()
            durable, self._durable = self._durable, {}
        if not (batches or lost or durable):
            return None
        kept = [*(self._declare(device, gap) for device, gap in lost), *batches]
        forget = {lane: number for epoch, number in durable.items() if (lane := file.lane_of(epoch)) is not None}
        try:
            self._keep(file, kept, forget)
        except SpoolError as exc:
            self._put_back(batches, lost, durable, exc)
            return exc
        except Exception as exc:
            # Without this thread nothing would be kept any more, and nobody told.
            logger.exception("unexpected, please report; going on")
            self._put_back(batches, lost, durable, SpoolError(f"spool {file.path}: {exc!r}"))
            return None
        if self._failing and kept:
            logger.info("the spool works again; %d batches were dropped meanwhile", self.dropped_batches)
            self._failing = False
        self._on_commit()
        return None

    def _keep(self, file: SpoolFile, kept: list[Batch], forget: dict[Lane, int]) -> None:
        if forget and (self._failing or not kept):
            # By itself: on a full disk it is what makes room.
            file.delete_through(forget)
        if not kept:
            return
        booted_ms, now_ms = self._booted_ms(), self._now_ms()
        self._date_epoch(file)
        self.evicted_batches += file.append(kept, now_ms, self._declare, booted_ms=booted_ms, forget=forget)
        if booted_ms is None:
            self._chores_at = min(self._chores_at, time.monotonic())

    def _date_epoch(self, file: SpoolFile) -> None:
        """Gives a file that was made before UTC was known, with an epoch that may have been before, one that is new."""
        if self._booted_ms() and file.is_virgin and is_since_boot(file.base_epoch):
            file.renew(self._now_ms())

    def _do_chores(self, file: SpoolFile) -> SpoolError | None:
        if self._closing or self._chores_at > time.monotonic():
            return None
        wait_s = _RETRY_S
        try:
            self._date_epoch(file)
            is_news, wait_s = self._chores.run(file)
            self.undated_batches = file.undated
            if is_news:
                self._on_commit()
        except SpoolError as exc:
            return exc
        except Exception:
            logger.exception("unexpected, please report; going on")
        finally:
            self._chores_at = time.monotonic() + wait_s
        return None

    def _put_back(
        self, batches: list[Batch], lost: list[tuple[str, Gap]], durable: dict[int, int], fault: SpoolError
    ) -> None:
        if not self._failing:
            logger.error("%s; readings are held in memory until it works", fault)
        self._failing = True
        with self._changed:
            for epoch, number in durable.items():
                self._durable[epoch] = max(number, self._durable.get(epoch, 0))
            self._in_hand = 0
            self._buffer.put_back(batches, lost)
            self._commit_at = time.monotonic() + _RETRY_S

    def _read_from(self, file: SpoolFile, lane: Lane, batch_no: int, limit: int) -> list[StoredBatch]:
        while True:
            try:
                return file.read_from(lane, batch_no, limit)
            except GarbledBatchError as exc:
                logger.error("spool %s: %s; declared as a gap", file.path, exc)  # noqa: TRY400 - an operator has no use for the traceback
                file.heal(lane, exc.batch_no, self._now_ms(), self._declare, booted_ms=self._booted_ms())

    def _begin_anew(self, file: SpoolFile, fault: CorruptSpoolError) -> SpoolFile:
        """Another file, with a higher epoch, in place of one that has become unreadable, which is then salvaged."""
        with contextlib.suppress(SpoolError):
            file.close(clean=False)
        since = dict(file.kept_since)
        self._commit_at = 0.0
        while True:
            try:
                set_aside(file.path, fault)
                anew = self._open()
                self._chores.begin(anew, since, self._devices)
            except SpoolError as exc:
                logger.error("%s; will be tried again", exc)  # noqa: TRY400 - an operator has no use for the traceback
            else:
                self._chores_at = 0.0
                return anew
            if self._closing:
                return file
            time.sleep(_RETRY_S)

    def _finish(self, file: SpoolFile) -> None:
        self._chores.close()
        if len(self._buffer):
            logger.error("%d batches could not be spooled and are lost", len(self._buffer))
        with contextlib.suppress(SpoolError):
            file.close(clean=self._clean and not len(self._buffer))
