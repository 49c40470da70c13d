"""The ways of an update to the device: retained messages, or HTTP; a chunk at a time, at a rate that leaves room."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Final, Protocol

from contract.update import blob_topic
from edge.errors import NotNowError, UpdateError, UplinkError
from edge.uplink.turns import Bucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import httpx

    from contract.update import Desired
    from edge.update.staging import Staging

_CHUNK_TIMEOUT_S: Final = 20.0
_OK: Final = 200
_PARTIAL: Final = 206


class RetainedMessages(Protocol):
    """What lies at the broker."""

    async def fetch(self, topic: str, timeout_s: float) -> bytes:
        """The retained message on a topic; raises UplinkError where there is none in time."""


class Fetcher:
    """Fetches into `staging`; `check_room` raises NotNowError where the disk has none for the rest."""

    def __init__(self, retained: RetainedMessages, staging: Staging, bytes_per_s: float, ca_file: Path | None) -> None:
        self._retained = retained
        self._staging = staging
        self._rate = Bucket(bytes_per_s, bytes_per_s)
        self._ca_file = ca_file

    async def fetch(
        self, desired: Desired, is_wanted: Callable[[], bool], check_room: Callable[[int], Awaitable[None]]
    ) -> Path:
        """The content, whole and checked.

        Raises UpdateError where it is not what was signed, and NotNowError where it is to be tried again: what is there
        by then stays.
        """
        count = await asyncio.to_thread(self._staging.resume, desired)
        if desired.url is None:
            await self._fetch_rest(desired, count, self._from_broker, is_wanted, check_room)
        else:
            async with self._client() as client:
                await self._fetch_rest(desired, count, _FromUrl(client).chunk, is_wanted, check_room)
        return await asyncio.to_thread(self._staging.complete, desired)

    async def _fetch_rest(
        self,
        desired: Desired,
        count: int,
        chunk_of: Callable[[Desired, int], Awaitable[bytes]],
        is_wanted: Callable[[], bool],
        check_room: Callable[[int], Awaitable[None]],
    ) -> None:
        for number in range(count, len(desired.chunks)):
            if not is_wanted():
                raise NotNowError("another is wanted by now")
            await check_room(desired.size - number * desired.chunk_bytes)
            await asyncio.sleep(self._rate.wait_s(time.monotonic()))
            chunk = await chunk_of(desired, number)
            self._rate.take(len(chunk), time.monotonic())
            try:
                await asyncio.to_thread(self._staging.append, desired, number, chunk)
            except OSError as exc:
                raise NotNowError(f"the disk does not take it: {exc.strerror}") from exc

    async def _from_broker(self, desired: Desired, number: int) -> bytes:
        topic = blob_topic(desired.target.group, desired.sha256, number)
        try:
            return await self._retained.fetch(topic, _CHUNK_TIMEOUT_S)
        except UplinkError as exc:
            raise NotNowError(f"chunk {number} of {len(desired.chunks)}: {exc}") from exc

    def _client(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - memory that an agent which has all from its broker saves

        try:
            verify = True if self._ca_file is None else ssl.create_default_context(cafile=str(self._ca_file))
        except OSError as exc:
            raise NotNowError(f"update.ca_file {self._ca_file} cannot be used: {exc}") from exc
        return httpx.AsyncClient(verify=verify, timeout=_CHUNK_TIMEOUT_S)


class _FromUrl:
    """Chunks by HTTP Range."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def chunk(self, desired: Desired, number: int) -> bytes:
        import httpx  # noqa: PLC0415 - as above

        assert desired.url is not None
        begin, size = number * desired.chunk_bytes, desired.chunk_size(number)
        headers = {"Range": f"bytes={begin}-{begin + size - 1}", "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(_CHUNK_TIMEOUT_S),
                self._client.stream("GET", desired.url, headers=headers) as response,
            ):
                is_whole = response.status_code == _OK and size == desired.size
                if response.status_code != _PARTIAL and not is_whole:
                    raise NotNowError(f"{desired.url}: answers {response.status_code}, wanted is 206: a part of it")
                return await _bounded(response, size)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise NotNowError(f"{desired.url}: {str(exc) or type(exc).__name__}") from exc
        except TimeoutError:
            raise NotNowError(f"{desired.url}: no chunk within {_CHUNK_TIMEOUT_S:g} s") from None


async def _bounded(response: httpx.Response, size: int) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > size:
            raise UpdateError(f"{response.url}: gives more than the {size} bytes asked for")
    return bytes(body)
