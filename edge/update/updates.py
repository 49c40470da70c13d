"""The node's updates: what is wanted is fetched, tried, and confirmed or put back, one after another."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from contract.update_news import UpdateState
from edge.errors import NotNowError, RolledBackError, UpdateError
from edge.update.acceptance import check_expiry
from edge.update.room import check_room

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from contract.update import Desired
    from edge.update.acceptance import Accepted
    from edge.update.config import UpdateConfig
    from edge.update.fetching import Fetcher
    from edge.update.kinds import Updated, UpdateKind
    from edge.update.record import Record
    from edge.update.staging import Staging
    from edge.update.wanted import Wanted

logger = logging.getLogger(__name__)

# So long one is fetched while others wait: a slow link may take hours for it, and what waits may be what mends that.
_TURN_S: Final = 600.0


class Updates:
    """Takes signed states by `take`, and works on them in `run`; `known_wall_ms` gives None while it is not sure."""

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        config: UpdateConfig,
        host: Updated,
        *,
        kinds: Mapping[str, UpdateKind],
        wanted: Wanted,
        record: Record,
        staging: Staging,
        fetcher: Fetcher,
        known_wall_ms: Callable[[], int | None],
    ) -> None:
        self._config = config
        self._host = host
        self._kinds = kinds
        self._wanted = wanted
        self._record = record
        self._staging = staging
        self._fetcher = fetcher
        self._known_wall_ms = known_wall_ms
        self._news = asyncio.Event()

    def take(self, topic: str, payload: bytes) -> None:
        """A message on one of the node's topics; an empty one takes back what was there."""
        self._wanted.take(topic, payload)
        self._news.set()

    def forget(self) -> None:
        """Births were sent: all is told again, and what waited for a connection is tried again."""
        self._record.forget()
        self._wanted.all_now()
        self._news.set()

    def report(self) -> dict[str, object]:
        """What the health page shows of them."""
        return self._record.report()

    async def run(self) -> None:
        """Settles what an earlier run has begun, and takes in what comes, until it is cancelled or a restart is due."""
        if not await self._load() or not await self._settle_all():
            return
        while True:
            self._news.clear()
            self._record.tell()
            await self._read()
            if (accepted := self._wanted.due()) is not None:
                if not await self._work(accepted):
                    return
                continue
            try:
                async with asyncio.timeout(self._wanted.until_due_s()):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _load(self) -> bool:
        """Reads what earlier runs have noted; False where that is garbled, and somebody has to look."""
        while True:
            try:
                self._record.load()
            except NotNowError as exc:
                self._record.refuse(str(exc))
                await asyncio.sleep(self._config.retry_s)
            except UpdateError as exc:
                self._record.refuse(str(exc))
                return False
            else:
                return True

    async def _settle_all(self) -> bool:
        """What earlier runs have begun comes to its end; False when a restart has to bring that."""
        for kind, carried_out_by in self._kinds.items():
            for name in carried_out_by.names():
                if not await self._settle(kind, name):
                    return False
        return True

    async def _settle(self, kind: str, name: str) -> bool:
        """As `_settle_all` for one, however long its disk takes nothing."""
        while True:
            try:
                return await self._settle_now(kind, name)
            except NotNowError as exc:
                logger.warning("%s/%s: %s; tried again in %g s", kind, name, exc, self._config.retry_s)
                await asyncio.sleep(self._config.retry_s)
            except UpdateError as exc:
                logger.error("%s/%s: %s", kind, name, exc)  # noqa: TRY400 - an operator has no use for the traceback
                return True

    async def _settle_now(self, kind: str, name: str) -> bool:
        carried_out_by, standing = self._kinds[kind], self._record.standing(kind, name)
        outcome = await carried_out_by.settle(name, standing)
        if outcome is None:
            return True
        if outcome.state is UpdateState.TRYING:
            return False
        # What was begun by hand has no standing, and nothing to be noted.
        if standing is not None and not standing.state.is_final:
            self._record.settle(standing, outcome)
        await carried_out_by.settled(name)
        return True

    async def _work(self, accepted: Accepted) -> bool:
        """Goes on with one as far as it goes; False when a restart is due."""
        desired, fetched_before = accepted.desired, self._fetcher.fetched_bytes
        turn_ends_s = time.monotonic() + _TURN_S
        try:
            await self._check(desired)
            kind = self._kinds[desired.kind]
            self._record.progress(accepted, UpdateState.FETCHING)
            content = await self._fetcher.fetch(desired, lambda: self._goes_on(accepted, turn_ends_s), self._check_room)
            outcome = await kind.apply(accepted, content, lambda: self._record.progress(accepted, UpdateState.TRYING))
            if outcome.state is UpdateState.TRYING:
                return False
            self._end(accepted, outcome.state, outcome.reason)
        except (NotNowError, OSError) as exc:
            if await self._is_wanted(accepted):
                self._wait(accepted, str(exc), got_on=self._fetcher.fetched_bytes > fetched_before)
            return True
        except RolledBackError as exc:
            self._end(accepted, UpdateState.ROLLED_BACK, str(exc))
        except UpdateError as exc:
            self._end(accepted, UpdateState.REFUSED, str(exc))
        await self._clear_up(desired)
        return True

    async def _check(self, desired: Desired) -> None:
        """Raises UpdateError for one that is not to be fetched."""
        check_expiry(desired, self._known_wall_ms())
        if (takes := desired.size + desired.unpacked_bytes) > self._config.max_bytes:
            raise UpdateError(f"it takes {takes} bytes of disk, update.max_bytes is {self._config.max_bytes}")
        await asyncio.to_thread(self._kinds[desired.kind].check, desired)

    async def _check_room(self, size_bytes: int) -> None:
        await check_room(self._host, self._staging.directory, size_bytes)

    async def _is_wanted(self, accepted: Accepted) -> bool:
        await self._read()
        return self._wanted.has(accepted)

    async def _goes_on(self, accepted: Accepted, turn_ends_s: float) -> bool:
        """Whether it is still to be fetched: wanted, and no other one's turn."""
        if not await self._is_wanted(accepted):
            return False
        return time.monotonic() < turn_ends_s or not self._wanted.is_due_beside(accepted)

    async def _read(self) -> None:
        for gone in await self._wanted.read():
            self._wait(gone, "it was taken back")

    def _wait(self, accepted: Accepted, reason: str, *, got_on: bool = False) -> None:
        """It is tried again in a while, if it is wanted then."""
        self._wanted.put_off(accepted, got_on=got_on)
        try:
            self._record.progress(accepted, UpdateState.WAITING, reason)
        except UpdateError as exc:
            logger.warning("%s: %s", accepted.desired.title, exc)

    def _end(self, accepted: Accepted, state: UpdateState, reason: str | None) -> None:
        self._wanted.done(accepted)
        try:
            self._record.progress(accepted, state, reason)
        except UpdateError as exc:
            logger.error("%s: is %s, which is not noted: %s", accepted.desired.title, state, exc)  # noqa: TRY400 - as above

    async def _clear_up(self, desired: Desired) -> None:
        try:
            await self._kinds[desired.kind].settled(desired.name)
            await asyncio.to_thread(self._staging.prune, self._wanted.desired)
        except (UpdateError, OSError) as exc:
            logger.warning("%s: is not cleared up: %s", desired.title, exc)
