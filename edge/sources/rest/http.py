"""HTTP for the REST source: one bounded answer in bounded time, within the provider's limits, and one kind of error.

RestError (a SourceError)
├── Unreachable   the server cannot be reached, refuses us, or asks for a pause: no use to ask it for more now
├── Misanswer     this one answer cannot be used
└── Deferred      nothing was asked: the provider's limits leave no room now
"""

from __future__ import annotations

import asyncio
import logging
import random
import zlib
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from edge.errors import SourceError
from edge.sources.rest.bodies import bounded_body, reason_in

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    import httpx

    from edge.sources.rest.budget import Budget
    from edge.sources.rest.key import Key

_OK: Final = 200
_NOT_MODIFIED: Final = 304
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 3
# Unauthorized, payment required, forbidden: the same for whatever is asked next.
_REFUSING: Final = frozenset({401, 402, 403})
_THROTTLING: Final = 429
_LONGEST_COUNT: Final = 16
_LONGEST_TAG: Final = 256
_BRIEF_S: Final = 61.0
_SHOWN: Final = 300


class RestError(SourceError):
    """An API did not give what was asked; the message names the URL and what was found, and no secret."""


class Unreachable(RestError):  # noqa: N818 - says what is the matter, as its base is an Error
    """The server cannot be reached, refuses us, or asks for a pause."""


class Misanswer(RestError):  # noqa: N818 - as above
    """An answer that cannot be used."""


class Deferred(RestError):  # noqa: N818 - as above
    """Nothing was asked; `is_brief` when it will be within the minute and nobody needs to know."""

    def __init__(self, reason: str, *, is_brief: bool) -> None:
        super().__init__(reason)
        self.is_brief = is_brief


class Page(NamedTuple):
    """An answer; `validators` are the headers that ask for it again only if it has changed."""

    url: str
    body: bytes
    validators: Mapping[str, str]
    is_unmodified: bool = False


class Connection:
    """An API's server."""

    def __init__(
        self, client: httpx.AsyncClient, key: Key, budget: Budget, max_bytes: int, now_ms: Callable[[], int]
    ) -> None:
        self._client = client
        self._key = key
        self._budget = budget
        self._max_bytes = max_bytes
        self._now_ms = now_ms
        self.last_status = "none yet"
        self.not_modified = 0
        self.allowance_left: float | None = None

    async def get(self, url: str, headers: Mapping[str, str], deadline_s: float) -> Page:
        """What stands at a URL; raises RestError, never later than `deadline_s` on the loop's clock."""
        for _ in range(1 + _MAX_REDIRECTS):
            await self._admission(url, deadline_s)
            answer = await self._in_time(url, headers, deadline_s)
            if isinstance(answer, Page):
                return answer
            url = answer
        raise Misanswer(f"{self.shown(url)}: over {_MAX_REDIRECTS} redirects")

    async def _admission(self, url: str, deadline_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        if (reason := self._budget.refusal(now_s, self._now_ms())) is not None:
            raise Deferred(f"{self.shown(url)}: {reason}", is_brief=False)
        wait_s = self._budget.wait_s(now_s)
        if now_s + wait_s >= deadline_s:
            reason = f"{self.shown(url)}: the rate limit has room in {wait_s:.1f} s"
            raise Deferred(reason, is_brief=wait_s <= _BRIEF_S)
        await asyncio.sleep(wait_s)
        self._budget.spend(now_s + wait_s, self._now_ms())

    async def _in_time(self, url: str, headers: Mapping[str, str], deadline_s: float) -> Page | str:
        import httpx  # noqa: PLC0415 - a config is checked without the driver

        shown = self.shown(url)
        left_s = deadline_s - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline_s):
                return await self._exchange(url, headers)
        except TimeoutError as exc:
            self.last_status = "time-out"
            raise Unreachable(f"{shown}: no answer in {round(left_s, 2):g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            self.last_status = type(exc).__name__
            if isinstance(exc, httpx.ConnectError):
                self._budget.refund()
            # Its words may hold the URL as it was sent.
            raise Unreachable(f"{shown}: {self._key.hide(str(exc))[:_SHOWN] or type(exc).__name__}") from None

    async def _exchange(self, url: str, headers: Mapping[str, str]) -> Page | str:
        """One request and its answer, or where it is to be found instead."""
        sent_url, sent_headers = self._key.apply(url, headers)
        request = self._client.build_request("GET", sent_url, headers=sent_headers)
        try:
            response = await self._client.send(request, stream=True)
        except ValueError as exc:
            # The library looks into redirects by itself, and stumbles over names that idna refuses.
            raise Misanswer(f"{self.shown(url)}: {self._key.hide(str(exc))[:_SHOWN]}") from None
        try:
            self.last_status = str(response.status_code)
            if response.status_code in _REDIRECTS:
                return self._redirect(url, response)
            body = await self._body(url, response)
        finally:
            await response.aclose()
            # Nothing of one answer is carried into the next request, and nothing gathers.
            self._client.cookies.clear()
        return self._page(url, response, body)

    def _redirect(self, url: str, response: httpx.Response) -> str:
        location = response.headers.get("location", "")
        to = joined(url, location)
        if to is None:
            shown = self._key.hide(location)[:80]
            raise Misanswer(
                f"{self.shown(url)}: redirected to {shown!r}, another server: if it is right, name it as base_url"
            )
        return to

    async def _body(self, url: str, response: httpx.Response) -> bytes:
        try:
            return await bounded_body(response, self._max_bytes)
        except (ValueError, zlib.error) as exc:
            raise Misanswer(f"{self.shown(url)}: {self._key.hide(str(exc))}") from None

    def _page(self, url: str, response: httpx.Response, body: bytes) -> Page:
        status = response.status_code
        self._note_allowance(response)
        if status == _NOT_MODIFIED:
            self.not_modified += 1
            return Page(url, b"", {}, is_unmodified=True)
        if status == _OK:
            return Page(url, body, _validators(response.headers))
        error = f"{self.shown(url)}: HTTP {status} {self._key.hide(response.reason_phrase)[:80]}: "
        error += self._key.hide(reason_in(body))
        wait_s = retry_after_s(response.headers, self._now_ms())
        if status == _THROTTLING or wait_s is not None:
            self.pause(wait_s, error)
            raise Unreachable(error)
        raise Unreachable(error) if status in _REFUSING else Misanswer(error)

    def pause(self, wait_s: float | None, reason: str) -> None:
        """Asks for nothing for so long; None: for as long as our own back-off has it."""
        luck = random.random()  # noqa: S311 - spreads load, keeps no secret
        self._budget.pause(asyncio.get_running_loop().time(), wait_s, luck, reason)

    def exhausted(self, reason: str) -> None:
        """Asks for nothing until the day's quota is renewed."""
        self._budget.exhaust(asyncio.get_running_loop().time(), self._now_ms(), reason)

    def answered(self) -> None:
        """Notes that the answer was one."""
        self._budget.answered()

    def hide(self, text: str) -> str:
        """A text without the secret."""
        return self._key.hide(text)

    def shown(self, url: str) -> str:
        """A URL as messages name it: without the secret, and no longer than a line; a server may have sent it."""
        return self._key.hide(url)[:_SHOWN]

    def _note_allowance(self, response: httpx.Response) -> None:
        found = response.headers.get("x-ratelimit-remaining", "")
        self.allowance_left = (
            float(found) if found.isascii() and found.isdecimal() and len(found) < _LONGEST_COUNT else None
        )


def _validators(headers: Mapping[str, str]) -> dict[str, str]:
    """What asks for the same again only if it has changed; nothing that cannot be sent back as it came."""
    names = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
    found = {ask: headers.get(name, "") for name, ask in names.items()}
    return {ask: value for ask, value in found.items() if 0 < len(value) <= _LONGEST_TAG and value.isascii()}


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds in a Retry-After, given as such or as a date; None where there is none that can be read."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        # More digits than a float has are an hour too, as the pause is capped.
        return float(value[:18])
    try:
        until_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    try:
        # By the server's own clock where it tells it: ours may be wrong.
        now_s = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        now_s = now_ms / 1000
    return max(0.0, until_s - now_s)


def joined(url: str, link: str) -> str | None:
    """Where a link on a page leads to; None where that is another server."""
    import httpx  # noqa: PLC0415 - as above

    here, ports = httpx.URL(url), {"http": 80, "https": 443}
    try:
        there = here.join(link)
        servers = {(one.scheme, one.host, one.port or ports.get(one.scheme)) for one in (here, there)}
    except (httpx.InvalidURL, ValueError):  # ValueError: of idna, for names in another script
        return None
    return str(there) if len(servers) == 1 else None


@asynccontextmanager
async def connected(
    key: Key,
    budget: Budget,
    headers: Mapping[str, str],
    verify: ssl.SSLContext | bool,  # noqa: FBT001 - httpx's: whether to verify, and how
    max_bytes: int,
    now_ms: Callable[[], int],
) -> AsyncIterator[Connection]:
    """The API's server; nothing is asked yet."""
    import httpx  # noqa: PLC0415 - a config is checked without the driver

    for chatty in ("httpx", "httpcore"):
        # They log every request, URL and all; the agent logs what fails.
        logging.getLogger(chatty).setLevel(logging.WARNING)
    always = {"Accept-Encoding": "gzip", **headers}
    async with httpx.AsyncClient(headers=always, verify=verify, timeout=None) as client:  # noqa: S113 - `get` has one
        yield Connection(client, key, budget, max_bytes, now_ms)
