"""The spool's thread, which alone has the file: commits, calls, chores, another file where one is unreadable."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.clock import boot_id
from edge.errors import CorruptSpoolError, GarbledBatchError, SpoolError
from edge.spool.chores import Chores
from edge.spool.dating import is_since_boot
from edge.spool.directory import open_spool, set_aside
from edge.spool.held import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from edge.lane import Lane
    from edge.sources.base import Clock
    from edge.spool.file import Declare, FileLimits, SpoolFile
    from edge.spool.inbox import Inbox, Work
    from edge.spool.sequence import StoredBatch

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_COMMIT_BYTES: Final = 4 << 20
_SMALL_COMMIT_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Beginning:
    """What an earlier run left.

    Whether it stopped by its own will, and (UTC ms) when each device was last spooled, and anything at all.
    """

    epoch: int
    stopped_cleanly: bool
    last_sampled: dict[str, int]
    newest_kept_ms: int = 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the keeper needs of the node: where and how much it keeps, what time it is, and whom it tells."""

    directory: Path
    limits: FileLimits
    now_ms: Clock
    booted_ms: Callable[[], int | None]
    declare: Declare
    devices: Sequence[str]
    on_commit: Callable[[], object]


class Keeper:
    """Used by one thread, but for its counts, and for `held`, which is never changed but replaced."""

    def __init__(self, around: Surroundings, inbox: Inbox) -> None:
        self.undated_batches = 0
        self.held = NOTHING
        self._around = around
        self._inbox = inbox
        self._chores = Chores(
            around.directory, around.now_ms, around.booted_ms, around.declare, around.limits.max_bytes
        )
        self._chores_at = math.inf
        self._evicted_batches = 0
        # Why the disk takes nothing, while it does not.
        self.fault: str | None = None
        self._has_news = False

    @property
    def _is_failing(self) -> bool:
        return self.fault is not None

    @property
    def evicted_batches(self) -> int:
        """How many batches were lost for want of room."""
        return self._evicted_batches + self._chores.evicted_batches

    def work(self, opened: Future[Beginning]) -> None:
        """The thread: opens the file, says what it found, and works until the inbox is closed."""
        try:
            file = self._begin()
            beginning = Beginning(file.base_epoch, file.stopped_cleanly, file.last_sampled(), file.newest_kept_ms)
        except Exception as exc:  # noqa: BLE001 - whatever it is belongs to who waits for it
            opened.set_exception(exc)
            return
        self._chores_at = 0.0
        with contextlib.suppress(SpoolError):
            # What cannot be read is met again by whoever asks for it.
            self.held = file.held()
        opened.set_result(beginning)
        while not self._inbox.is_closing:
            file = self._serve(file)
        file = self._serve(file)
        self._end(file)

    def _open(self) -> SpoolFile:
        return open_spool(self._around.directory, self._around.limits, self._around.now_ms(), boot_id())

    def _begin(self) -> SpoolFile:
        file = self._open()
        if file.was_cut_off:
            # Were the last numbers lost with the power, what the bridge knows of them would be taken for new ones.
            try:
                file.renew(self._around.now_ms())
            except SpoolError as exc:
                # A full disk must not keep us from delivering, which is what empties it.
                logger.warning("%s; after a power cut it goes on under its old epoch", exc)
        self._chores.begin(None, self._around.devices)
        return file

    def _serve(self, file: SpoolFile) -> SpoolFile:
        """Waits for something to do and does it; returns the file to go on with."""
        work, calls = self._inbox.wait(self._chores_at)
        committed = self._commit(file, work) if work else None
        faults = [committed, *(call(file) for call in calls), self._do_chores(file), self._show(file)]
        corrupt = next((fault for fault in faults if isinstance(fault, CorruptSpoolError)), None)
        return self._begin_anew(file, corrupt) if corrupt else file

    def _commit(self, file: SpoolFile, work: Work) -> SpoolError | None:
        """Commits what there is; puts back what the disk does not take."""
        left = work
        try:
            while left:
                # What has gathered while the disk was full may be more than it has room for at once.
                piece, rest = left.split(_SMALL_COMMIT_BYTES if self._is_failing else _COMMIT_BYTES)
                self._keep(file, piece)
                left, self._has_news = rest, True
        except SpoolError as exc:
            self._put_back(left, exc)
            return exc
        except Exception as exc:
            # Without this thread nothing would be kept any more, and nobody told.
            logger.exception("unexpected, please report; going on")
            self._put_back(left, SpoolError(f"spool {file.path}: {exc!r}"))
            return None
        if self._is_failing and (work.batches or work.lost):
            logger.info("the spool works again; %d batches were dropped meanwhile", self._inbox.dropped_batches)
            self.fault = None
        self._inbox.done()
        return None

    def _keep(self, file: SpoolFile, work: Work) -> None:
        kept = [*(self._around.declare(device, gap) for device, gap in work.lost), *work.batches]
        forget = {lane: number for epoch, number in work.durable.items() if (lane := file.lane_of(epoch)) is not None}
        if forget and (self._is_failing or not kept):
            # By itself: on a full disk it is what makes room.
            file.delete_through(forget)
        if not kept:
            return
        self._date_epoch(file)
        booted_ms, now_ms = self._around.booted_ms(), self._around.now_ms()
        self._evicted_batches += file.append(kept, now_ms, self._around.declare, booted_ms=booted_ms, forget=forget)
        if booted_ms is None:
            self._chores_at = min(self._chores_at, time.monotonic())

    def _put_back(self, work: Work, fault: SpoolError) -> None:
        if not self._is_failing:
            logger.error("%s; readings are held in memory until it works", fault)
        self.fault = str(fault)
        self._inbox.put_back(work, _RETRY_S)

    def _date_epoch(self, file: SpoolFile) -> None:
        """Gives a file that was made before UTC was known, with an epoch that may have been before, one that is new."""
        if self._around.booted_ms() and file.is_virgin and is_since_boot(file.base_epoch):
            file.renew(self._around.now_ms())

    def _do_chores(self, file: SpoolFile) -> SpoolError | None:
        if self._inbox.is_closing or self._chores_at > time.monotonic():
            return None
        wait_s = _RETRY_S
        try:
            self._date_epoch(file)
            is_news, wait_s = self._chores.run(file)
            self.undated_batches = file.undated
            self._has_news |= is_news
        except SpoolError as exc:
            return exc
        except Exception:
            logger.exception("unexpected, please report; going on")
        finally:
            self._chores_at = time.monotonic() + wait_s
        return None

    def _show(self, file: SpoolFile) -> SpoolError | None:
        """Where there is something new, lets others see it, and tells them."""
        if not self._has_news:
            return None
        self._has_news = False
        try:
            self.held = file.held()
        except SpoolError as exc:
            return exc
        finally:
            self._around.on_commit()
        return None

    def renew(self, file: SpoolFile, epoch: int) -> None:
        """Takes higher epochs where one of the file's lanes has the one given."""
        if file.lane_of(epoch) is not None:
            file.renew(self._around.now_ms())
            self.held = file.held()

    def read_from(self, file: SpoolFile, lane: Lane, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches of a lane from a number on, gaps in the place of those that are garbled."""
        while True:
            try:
                return file.read_from(lane, batch_no, limit)
            except GarbledBatchError as exc:
                logger.error("spool %s: %s; declared as a gap", file.path, exc)  # noqa: TRY400 - an operator has no use for the traceback
                booted_ms, now_ms = self._around.booted_ms(), self._around.now_ms()
                file.heal(lane, exc.batch_no, now_ms, self._around.declare, booted_ms=booted_ms)

    def _begin_anew(self, file: SpoolFile, fault: CorruptSpoolError) -> SpoolFile:
        """Another file, with a higher epoch, in place of one that has become unreadable, which is then salvaged."""
        with contextlib.suppress(SpoolError):
            file.close(clean=False)
        self._inbox.hurry()
        while True:
            try:
                set_aside(file.path, fault)
                anew = self._open()
                # Before anybody is answered from the new file: its numbers are not those of the old one.
                self.held = anew.held()
            except SpoolError as exc:
                logger.error("%s; will be tried again", exc)  # noqa: TRY400 - an operator has no use for the traceback
            else:
                self._chores.begin(file.kept_since, self._around.devices)
                self._chores_at = 0.0
                self._has_news = True
                return anew
            if self._inbox.is_closing:
                return file
            time.sleep(_RETRY_S)

    def _end(self, file: SpoolFile) -> None:
        self._chores.close()
        if lost := self._inbox.buffered:
            logger.error("%d batches could not be spooled and are lost", lost)
        with contextlib.suppress(SpoolError):
            file.close(clean=self._inbox.is_clean and not lost)
