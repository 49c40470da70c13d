"""Chunks by HTTP Range: in pieces, each kept as it comes, so that a slow link that is cut off goes on where it was."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx

from edge.errors import NotNowError
from edge.update.staging import BadChunkError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from contract.update import Desired
    from edge.update.staging import Staging

# Without a byte; how long a chunk takes is the link's affair.
_STILL_S: Final = 60.0
_OK: Final = 200
_PARTIAL: Final = 206


@asynccontextmanager
async def client(ca_file: Path | None) -> AsyncIterator[httpx.AsyncClient]:
    """What asks; raises NotNowError for a file of certificates that cannot be used."""
    try:
        verify = True if ca_file is None else await asyncio.to_thread(ssl.create_default_context, cafile=str(ca_file))
    except OSError as exc:
        raise NotNowError(f"update.ca_file {ca_file} cannot be used: {exc}") from exc
    async with httpx.AsyncClient(verify=verify, timeout=_STILL_S) as found:
        yield found


class FromUrl:
    """What lies at a desired state's URL; `is_wanted` is asked at each piece, `count` hears of its bytes."""

    def __init__(
        self,
        asked: httpx.AsyncClient,
        staging: Staging,
        is_wanted: Callable[[], Awaitable[bool]],
        count: Callable[[int], None],
    ) -> None:
        self._client = asked
        self._staging = staging
        self._is_wanted = is_wanted
        self._count = count

    async def chunk(self, desired: Desired, number: int) -> bytes:
        """A chunk, whole but not checked; raises NotNowError, what has come by then being kept."""
        assert desired.url is not None
        begun, size = len(await asyncio.to_thread(self._staging.begun, desired, number)), desired.chunk_size(number)
        begin = number * desired.chunk_bytes
        headers = {"Range": f"bytes={begin + begun}-{begin + size - 1}", "Accept-Encoding": "identity"}
        try:
            async with self._client.stream("GET", desired.url, headers=headers) as response:
                # Who knows no ranges begins anew.
                offset = 0 if _is_whole(response, desired, size) else begun
                async for piece in response.aiter_raw():
                    await self._keep(desired, number, offset, piece)
                    offset += len(piece)
        except httpx.TimeoutException as exc:
            raise NotNowError(f"{desired.url}: no byte came for {_STILL_S:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise NotNowError(f"{desired.url}: {str(exc) or type(exc).__name__}") from exc
        if offset < size:
            raise NotNowError(f"{desired.url}: ended after {offset} of the {size} bytes of chunk {number}")
        return await asyncio.to_thread(self._staging.begun, desired, number)

    async def _keep(self, desired: Desired, number: int, offset: int, piece: bytes) -> None:
        if not await self._is_wanted():
            raise NotNowError("another one comes first")
        if offset + len(piece) > (size := desired.chunk_size(number)):
            raise BadChunkError(f"more came than the {size} bytes of chunk {number}")
        await asyncio.to_thread(self._staging.keep, desired, number, offset, piece)
        self._count(len(piece))


def _is_whole(response: httpx.Response, desired: Desired, size: int) -> bool:
    """Whether the answer is all of it, and not the part that was asked for; raises NotNowError where it is neither."""
    if response.status_code == _PARTIAL:
        return False
    if response.status_code == _OK and size == desired.size:
        # A page to sign in at, say, is told from it by its length.
        if (length := response.headers.get("Content-Length", str(size))) != str(size):
            raise NotNowError(f"{desired.url}: answers with {length[:20]} bytes, wanted are {size}")
        return True
    raise NotNowError(f"{desired.url}: answers {response.status_code}, wanted is 206: a part of it")
