"""JSON over HTTP for the sources that poll an API: one request, one bounded answer, one kind of error.

ApiError (a SourceError)
├── ApiUnreachable   the server cannot be reached, refuses us, or asks for a pause: no use to ask it for more now
└── ApiMisanswer     this one answer cannot be used
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from edge.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import httpx

_OK: Final = 200
# Unauthorized, forbidden, too many requests: the same for whatever is asked next.
_REFUSING: Final = frozenset({401, 403, 429})
_SHOWN: Final = 80
_EARLIEST_S: Final = 946_684_800  # 2000-01-01
_LATEST_S: Final = 4_102_444_800  # 2100-01-01


class ApiError(SourceError):
    """An API did not give what was asked; the message names the URL and what was found."""


class ApiUnreachable(ApiError):  # noqa: N818 - says what is the matter, as its base is an Error
    """The server cannot be reached, refuses us, or asks for a pause."""


class ApiMisanswer(ApiError):  # noqa: N818 - as above
    """An answer that cannot be used."""


class JsonApi:
    """A server of JSON documents. URLs in messages carry no header, hence no token."""

    def __init__(self, client: httpx.AsyncClient, max_bytes: int) -> None:
        self._client = client
        self._max_bytes = max_bytes

    async def get(self, path: str, params: Mapping[str, str], timeout_s: float) -> dict[str, object]:
        """The JSON object at a path; raises ApiUnreachable or ApiMisanswer, never later than `timeout_s`."""
        import httpx  # noqa: PLC0415 - a config is checked without the driver

        request = self._client.build_request("GET", path, params=dict(params))
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.send(request, stream=True)
                try:
                    return await self._document(response)
                finally:
                    await response.aclose()
        except TimeoutError as exc:
            raise ApiUnreachable(f"{request.url}: no answer in {timeout_s:.3g} s") from exc
        except httpx.HTTPError as exc:
            raise ApiUnreachable(f"{request.url}: {str(exc) or type(exc).__name__}") from exc

    async def _document(self, response: httpx.Response) -> dict[str, object]:
        url = response.request.url
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > self._max_bytes:
                raise ApiMisanswer(f"{url}: the answer is over {self._max_bytes} bytes")
        if response.status_code != _OK:
            kind = ApiUnreachable if response.status_code in _REFUSING else ApiMisanswer
            raise kind(f"{url}: HTTP {response.status_code} {response.reason_phrase}: {_shown(body)}")
        try:
            document = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            raise ApiMisanswer(f"{url}: not JSON ({exc}): {_shown(body)}") from exc
        if not isinstance(document, dict):
            raise ApiMisanswer(f"{url}: not a JSON object: {_shown(body)}")
        return document


@asynccontextmanager
async def open_json_api(base_url: str, headers: Mapping[str, str], max_bytes: int) -> AsyncIterator[JsonApi]:
    """The API at a base URL; nothing is asked yet."""
    import httpx  # noqa: PLC0415 - a config is checked without the driver

    # It logs every request; the agent logs what fails.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Not compressed: the bound on an answer is then one on memory too.
    plain = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
    async with httpx.AsyncClient(base_url=base_url, headers=plain, timeout=None) as client:  # noqa: S113 - `get` has one
        yield JsonApi(client, max_bytes)


def number_in(document: Mapping[str, object], key: str) -> float:
    """A finite number of a document; raises ValueError which says what stands there instead."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise ValueError(f"{key!r} is {_found(document, key)}, allowed is a finite number")
    return float(value)


def unix_seconds_in(document: Mapping[str, object], key: str) -> int:
    """A time of a document in unix seconds, from 2000 to 2100; raises ValueError which says what stands there."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not _EARLIEST_S <= value < _LATEST_S:
        raise ValueError(f"{key!r} is {_found(document, key)}, allowed is a time in unix seconds")
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the floats
        return False


def _found(document: Mapping[str, object], key: str) -> str:
    return repr(document[key])[:_SHOWN] if key in document else "missing"


def _shown(body: bytes | bytearray) -> str:
    return repr(bytes(body[:_SHOWN]).decode(errors="replace"))


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
