"""The open REST source: whose turn it is, what is new, and what has gone wrong with which part."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from contract.sparkplug import Quality
from edge.reading import Reading
from edge.sources.base import Source
from edge.sources.rest.bodies import MAX_ROWS, shown
from edge.sources.rest.http import Deferred, Misanswer, RestError, Unreachable, joined
from edge.sources.rest.memory import Faults, Seen
from edge.sources.rest.plan import BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge.sources.rest.answers import Digest, Reader, Row
    from edge.sources.rest.api import Paging, Refusal, Request
    from edge.sources.rest.budget import Budget
    from edge.sources.rest.hours import Hours
    from edge.sources.rest.http import Connection, Page

_LARGE_BYTES: Final = 32_768


@dataclass(frozen=True, eq=False)
class Ask:
    """One request as it is made, and whose values it brings."""

    request: Request
    reader: Reader
    subjects: Sequence[str]
    url: Callable[[Mapping[str, str]], str]
    """The URL, with query parameters beyond those of the request: the page."""
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Answer:
    """What one ask brought; `rows` and `errors` by subject."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    validators: Mapping[str, str] | None = None
    _row_count: int = 0

    def add(self, digest: Digest) -> None:
        """Takes in a page; raises ValueError for more than memory is meant for."""
        self._row_count += sum(len(found.rows) for found in digest.rows.values())
        if self._row_count > MAX_ROWS:
            raise ValueError(f"over {MAX_ROWS} rows on all pages")
        for subject, found in digest.rows.items():
            self.rows.setdefault(subject, []).extend(found.rows)
            if found.errors:
                self.errors.setdefault(subject, found.errors[0])


@dataclass(slots=True)
class _Round:
    """One poll: what was answered, what failed, and why the rest was not asked."""

    answers: dict[Ask, _Answer] = field(default_factory=dict)
    errors: dict[Ask, RestError] = field(default_factory=dict)
    deferred: Deferred | None = None


@dataclass(frozen=True)
class Pace:
    """How often is asked: `per_poll` asks of each poll; while closed each `closed_interval_s`, or not at all."""

    per_poll: int
    timeout_s: float
    hours: Hours | None
    closed_interval_s: float | None


class RestSource(Source):
    """An open API."""

    def __init__(
        self,
        name: str,
        asks: Sequence[Ask],
        connection: Connection,
        pace: Pace,
        budget: Budget,
        now_ms: Callable[[], int],
    ) -> None:
        self._asks = asks
        self._connection = connection
        self._pace = pace
        self._budget = budget
        self._now_ms = now_ms
        self._next = 0
        self._asked_ms: int | None = None
        self._seen: dict[tuple[Ask, str], Seen] = {}
        self._validators: dict[Ask, Mapping[str, str]] = {}
        self._faults = Faults(name)

    async def poll(self) -> list[Reading]:
        """What is new; raises SourceError when nothing was answered that should have been."""
        if self._rests():
            return []
        asked_ms, spent = self._now_ms(), self._budget.spent
        found = await self._ask_round()
        if not found.answers:
            if found.errors:
                error = next(iter(found.errors.values()))
                self._budget.spread(asyncio.get_running_loop().time(), self._budget.spent - spent, str(error))
                raise error
            if found.deferred is not None and not found.deferred.is_brief:
                raise found.deferred
            return []
        # Only now: a poll that is cancelled on its way has delivered nothing, and must not have seen anything.
        self._asked_ms = asked_ms
        readings = [reading for ask, answer in found.answers.items() for reading in self._taken(ask, answer)]
        for ask, error in found.errors.items():
            readings += self._failed(ask, str(error))
        return readings

    def details(self) -> Mapping[str, float | str]:
        """Requests, what is left of the quotas, the last status, and whether the market is open."""
        now_ms, connection = self._now_ms(), self._connection
        found: dict[str, float | str] = {
            "requests": float(self._budget.spent),
            "not_modified": float(connection.not_modified),
            "last_status": connection.last_status,
            **self._budget.details(now_ms),
        }
        if connection.allowance_left is not None:
            found["allowance_left"] = connection.allowance_left
        refusal = self._budget.refusal(asyncio.get_running_loop().time(), now_ms)
        if refusal is not None:
            found["waits"] = refusal
        if self._pace.hours is not None:
            found["market"] = market(self._pace.hours, now_ms)
        return found

    def _rests(self) -> bool:
        """Whether the market is closed, and was asked often enough since."""
        now_ms, pace = self._now_ms(), self._pace
        if self._asked_ms is None or pace.hours is None or pace.hours.is_open(now_ms):
            return False
        return pace.closed_interval_s is None or now_ms - self._asked_ms < pace.closed_interval_s * 1000

    async def _ask_round(self) -> _Round:
        found = _Round()
        deadline_s = asyncio.get_running_loop().time() + self._pace.timeout_s * BUDGET
        turn = [self._asks[(self._next + i) % len(self._asks)] for i in range(self._pace.per_poll)]
        for i, ask in enumerate(turn):
            try:
                found.answers[ask] = await self._answer(ask, deadline_s)
            except Deferred as exc:
                # The next poll begins with it.
                found.deferred = exc
                self._next = (self._next + i) % len(self._asks)
                return found
            except Misanswer as exc:
                found.errors[ask] = exc
            except Unreachable as exc:
                # What holds for the server holds for what was still to come.
                found.errors |= dict.fromkeys(turn[i:], exc)
                break
        self._next = (self._next + self._pace.per_poll) % len(self._asks)
        return found

    async def _answer(self, ask: Ask, deadline_s: float) -> _Answer:
        """All pages of one answer."""
        answer, paging = _Answer(), ask.request.paging
        headers = {**ask.headers, **self._validators.get(ask, {})}
        url: str | None = ask.url(_page_parameter(paging, 0))
        asked: set[str] = set()
        for number in range(1 if paging is None else paging.max_pages):
            if url is None or url in asked:
                break
            asked.add(url)
            page = await self._connection.get(url, headers, deadline_s)
            if page.is_unmodified:
                return _Answer()
            try:
                digest = await _digested(ask, page.body, self._now_ms())
                self._check_refusal(digest.refusal, page)
                answer.add(digest)
                url = _next_url(ask, digest, url, number)
            except ValueError as exc:
                # Not from it: what it shows of the answer may hold the secret.
                raise Misanswer(f"{self._connection.shown(page.url)}: {self._connection.hide(str(exc))}") from None
            # Only of the whole: of pages one may change and the first not.
            answer.validators = page.validators if paging is None else None
            headers = dict(ask.headers)
        self._connection.answered()
        return answer

    def _check_refusal(self, refusal: Refusal | None, page: Page) -> None:
        """Raises RestError for a refusal of everybody, ValueError for that of one thing."""
        if refusal is None:
            return
        said = self._connection.hide(shown(page.body, 200))
        reason = f"{self._connection.shown(page.url)}: {refusal.says}: {said}"
        match refusal.means:
            case "throttled":
                self._connection.pause(None, reason)
            case "exhausted":
                self._connection.exhausted(reason)
            case "unknown":
                raise ValueError(refusal.says)
            case "refused":
                pass
        raise Unreachable(reason)

    def _taken(self, ask: Ask, answer: _Answer) -> list[Reading]:
        """The readings of an answer that are new; what is wrong with it is told."""
        if answer.validators is not None:
            self._validators[ask] = answer.validators
        readings: list[Reading] = []
        for subject, rows in answer.rows.items():
            if subject in answer.errors and not rows:
                readings += self._bad(ask, subject)
            else:
                readings += self._seen.setdefault((ask, subject), Seen()).new_in(rows)
            faults = [answer.errors[subject]] if subject in answer.errors else []
            faults += [f"{metric}: {fault}" for row in rows[-1:] for metric, fault in row.faults.items()]
            self._faults.tell((ask, subject), subject or ask.request.path, "; ".join(faults))
        return readings

    def _failed(self, ask: Ask, error: str) -> list[Reading]:
        for subject in ask.subjects:
            self._faults.tell((ask, subject), subject or ask.request.path, error)
        return [reading for subject in ask.subjects for reading in self._bad(ask, subject)]

    def _bad(self, ask: Ask, subject: str) -> list[Reading]:
        """Each metric of a subject without value; what it was before is told again once it is good."""
        self._seen.pop((ask, subject), None)
        self._validators.pop(ask, None)
        at_ms = self._now_ms()
        return [Reading(info.name, info.datatype, None, at_ms, Quality.BAD) for info in ask.reader.infos(subject)]


def market(hours: Hours, now_ms: int) -> str:
    """Whether a market is open, for people."""
    if hours.is_open(now_ms):
        return "open"
    opens_ms = hours.opens_next_ms(now_ms)
    return "closed" if opens_ms is None else f"closed until {hours.local(opens_ms)}"


async def _digested(ask: Ask, body: bytes, received_ms: int) -> Digest:
    """What a page says; a large one is taken apart beside the event loop, which has other sources to serve."""
    if len(body) < _LARGE_BYTES:
        return ask.reader.digest(body, ask.subjects, received_ms)
    return await asyncio.to_thread(ask.reader.digest, body, ask.subjects, received_ms)


def _next_url(ask: Ask, digest: Digest, url: str, number: int) -> str | None:
    paging = ask.request.paging
    if paging is None or not digest.has_rows:
        return None
    if paging.next is None:
        return ask.url(_page_parameter(paging, number + 1))
    link = digest.next_page
    to = joined(url, link) if isinstance(link, str) else None
    if link is not None and to is None:
        raise ValueError(f"the next page is {str(link)[:80]!r}, allowed is a URL on the same server")
    return to


def _page_parameter(paging: Paging | None, number: int) -> Mapping[str, str]:
    if paging is None or paging.parameter is None:
        return {}
    return {paging.parameter: str(paging.start + number * paging.step)}
