"""The ways of an update to the device: retained messages, or HTTP; a chunk at a time, at a rate that leaves room."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

from edge.errors import NotNowError, UpdateError, UplinkError
from edge.update.staging import BadChunkError
from edge.uplink.turns import Bucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from contract.update import Desired
    from edge.update.staging import Staging

# A chunk on a link of 1 kB/s; a message has no beginning that could be seen to come.
_MESSAGE_TIMEOUT_S: Final = 60.0
# Who signs in at a café, and a proxy that garbles what it passes on, spoil what would be good later.
_BAD_TRIES: Final = 5


class RetainedMessages(Protocol):
    """What lies at the broker."""

    async def fetch(self, topic: str, timeout_s: float) -> bytes:
        """The retained message on a topic; raises UplinkError where there is none in time."""


class Fetcher:
    """Fetches into `staging`; `check_room` raises NotNowError where the disk has none for the rest."""

    def __init__(self, retained: RetainedMessages, staging: Staging, bytes_per_s: float, ca_file: Path | None) -> None:
        # In this run, and good as far as is known: what a bad chunk has brought is none of them.
        self.fetched_bytes = 0
        self._retained = retained
        self._staging = staging
        self._rate = Bucket(bytes_per_s, bytes_per_s)
        self._ca_file = ca_file
        self._bad_tries: dict[str, int] = {}

    async def fetch(
        self, desired: Desired, is_wanted: Callable[[], Awaitable[bool]], check_room: Callable[[int], Awaitable[None]]
    ) -> Path:
        """The content, whole and checked.

        Raises UpdateError where it is not what was signed, and NotNowError where it is to be tried again: what is there
        by then stays.
        """
        count = await asyncio.to_thread(self._staging.resume, desired)
        if desired.url is None:
            await self._fetch_rest(desired, count, self._from_broker, is_wanted, check_room)
        elif count < len(desired.chunks):
            from edge.update.from_url import FromUrl, client  # noqa: PLC0415 - memory that an agent without URLs saves

            async with client(self._ca_file) as asked:
                source = FromUrl(asked, self._staging, is_wanted, self._count)
                await self._fetch_rest(desired, count, source.chunk, is_wanted, check_room)
        self._bad_tries.pop(desired.sha256, None)
        return await asyncio.to_thread(self._staging.complete, desired)

    async def _fetch_rest(
        self,
        desired: Desired,
        count: int,
        chunk_of: Callable[[Desired, int], Awaitable[bytes]],
        is_wanted: Callable[[], Awaitable[bool]],
        check_room: Callable[[int], Awaitable[None]],
    ) -> None:
        for number in range(count, len(desired.chunks)):
            if not await is_wanted():
                raise NotNowError("another one comes first")
            await check_room(desired.size - number * desired.chunk_bytes)
            await asyncio.sleep(self._rate.wait_s(time.monotonic()))
            fetched_before = self.fetched_bytes
            try:
                chunk = await chunk_of(desired, number)
                self._rate.take(len(chunk), time.monotonic())
                await asyncio.to_thread(self._staging.append, desired, number, chunk)
            except BadChunkError as exc:
                self.fetched_bytes = fetched_before
                raise self._bad(desired, exc) from exc
            except OSError as exc:
                raise NotNowError(f"the disk does not take it: {exc.strerror}") from exc

    async def _from_broker(self, desired: Desired, number: int) -> bytes:
        try:
            chunk = await self._retained.fetch(desired.chunk_topic(number), _MESSAGE_TIMEOUT_S)
        except UplinkError as exc:
            raise NotNowError(f"chunk {number} of {len(desired.chunks)}: {exc}") from exc
        if not chunk:
            raise NotNowError(f"chunk {number} of {len(desired.chunks)}: was taken away from the broker")
        self.fetched_bytes += len(chunk)
        return chunk

    def _bad(self, desired: Desired, fault: BadChunkError) -> UpdateError:
        """What a bad chunk means: one of the broker's is what lies there, one of a URL may be good the next time."""
        if desired.url is None:
            return fault
        tries = self._bad_tries[desired.sha256] = self._bad_tries.get(desired.sha256, 0) + 1
        if tries < _BAD_TRIES:
            return NotNowError(f"{desired.url}: {fault}; it is asked for again ({tries} of {_BAD_TRIES} times)")
        del self._bad_tries[desired.sha256]
        return UpdateError(f"{desired.url}: {fault}, {tries} times")

    def _count(self, size_bytes: int) -> None:
        self.fetched_bytes += size_bytes
