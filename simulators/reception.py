"""What stands before a simulated API: its key, its limits, conditional requests, faults, and the ledger behind it."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import Field
from starlette.background import BackgroundTask
from starlette.responses import Response

from contract.config import Config
from simulators.api_faults import ApiFault, FaultPlan, keep_silent, replaced
from simulators.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from simulators.ledger import Ledger, Value

_MINUTE_S: Final = 60
_DAY_S: Final = 86_400


class Access(Config):
    """Who is answered, and how often; part of the configs of both simulated APIs."""

    token_env: str | None = Field(default=None, description="Environment variable that holds the key asked for")
    requests_per_minute: int | None = Field(default=None, ge=1, description="Requests answered each minute")
    requests_per_day: int | None = Field(default=None, ge=1, description="Requests answered each day of UTC")
    faults: tuple[ApiFault, ...] = Field(default=(), description="What goes wrong, and when")


@dataclass(frozen=True, slots=True)
class Reply:
    """What an API answers. `values` go into the ledger under `source_at` (UTC ms) once they are sent."""

    body: bytes
    media_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Value] | None = None
    source_at: int | None = None


def json_reply(document: Any, status: int = 200, **more: Any) -> Reply:  # noqa: ANN401 - JSON, and Reply's own fields
    """A reply of JSON."""
    return Reply(json.dumps(document, ensure_ascii=False).encode(), status=status, **more)


class Shape(Protocol):
    """A provider's API: its path, where its key is, and its words."""

    path: str

    def key(self, request: Request) -> str | None:
        """The key that a request brings."""

    def unauthorized(self, request: Request) -> Reply:
        """The answer to a key that is missing or wrong."""

    def throttled(self, request: Request, wait_s: int) -> Reply:
        """The answer to more requests than a minute allows."""

    def exhausted(self, request: Request, wait_s: int) -> Reply:
        """The answer to more requests than a day allows."""

    def answer(self, request: Request, now_s: float, *, other_units: bool) -> Reply:
        """The answer to a request that is let through; `other_units` as when a default of the API has changed."""


class RateLimit:
    """So many requests in each minute, or day, of the clock."""

    def __init__(self, limit: int, seconds: int = _MINUTE_S) -> None:
        self.limit = limit
        self._seconds = seconds
        self._period = 0
        self._count = 0

    def refused_for_s(self, now_s: float) -> int | None:
        """Count a request; None when it is let through, else the seconds until the next one is."""
        period, second = divmod(int(now_s), self._seconds)
        self._count = self._count + 1 if period == self._period else 1
        self._period = period
        return None if self._count <= self.limit else self._seconds - second


class Reception:
    """Answers requests for one simulator, and notes in its ledger what went out right."""

    def __init__(self, name: str, access: Access, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._token = _token(name, access)
        limit = access.requests_per_minute
        self._minute = None if limit is None else RateLimit(limit)
        self._day = None if access.requests_per_day is None else RateLimit(access.requests_per_day, _DAY_S)
        self._faults = FaultPlan(access.faults, clock())

    async def answer(self, request: Request, shape: Shape) -> Response:
        """The answer to a request, whatever there is in its way."""
        now_s = self._clock()
        fault = self._faults.at(now_s)
        if fault == "silent":
            await keep_silent(request)
            return Response(status_code=499)
        refusal = self._refusal(request, shape, now_s)
        reply = refusal or shape.answer(request, now_s, other_units=fault == "unit_change")
        if refusal is not None or reply.values is None:
            return _response(reply)
        if fault not in {None, "unit_change"}:
            assert fault is not None
            return replaced(fault, reply.body, reply.media_type)
        validators = _validators(request, reply)
        if _is_known(request, reply, validators):
            return Response(status_code=304, headers=validators)
        noted = request.method == "GET" and fault is None
        return _response(reply, validators, BackgroundTask(self._note, reply) if noted else None)

    def _refusal(self, request: Request, shape: Shape, now_s: float) -> Reply | None:
        if self._token is not None:
            given = shape.key(request) or ""
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return shape.unauthorized(request)
        if self._day is not None and (wait_s := self._day.refused_for_s(now_s)) is not None:
            return shape.exhausted(request, wait_s)
        if self._minute is not None and (wait_s := self._minute.refused_for_s(now_s)) is not None:
            return shape.throttled(request, wait_s)
        return None

    async def _note(self, reply: Reply) -> None:
        # A background task: it runs once the answer has been handed to the connection.
        if reply.values:
            self._ledger.served(reply.values, source_at=reply.source_at)


def _token(name: str, access: Access) -> str | None:
    if access.token_env is None:
        return None
    token = os.environ.get(access.token_env)
    if not token:
        raise SimulatorError(f"{name}: the environment variable {access.token_env} (token_env) is not set")
    return token


def _response(
    reply: Reply, validators: Mapping[str, str] | None = None, background: BackgroundTask | None = None
) -> Response:
    headers = {**reply.headers, **(validators or {})}
    return Response(reply.body, reply.status, headers, reply.media_type, background)


def _validators(request: Request, reply: Reply) -> dict[str, str]:
    # Of what it says, not of how it says it: bodies may hold the time that their making took.
    said = json.dumps([str(request.url), reply.source_at, reply.values], sort_keys=True)
    found = {"ETag": f'"{hashlib.sha256(said.encode()).hexdigest()[:16]}"'}
    if reply.source_at is not None:
        found["Last-Modified"] = formatdate(reply.source_at // 1000, usegmt=True)
    return found


def _is_known(request: Request, reply: Reply, validators: Mapping[str, str]) -> bool:
    if (tags := request.headers.get("if-none-match")) is not None:
        return validators["ETag"] in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    since = request.headers.get("if-modified-since")
    if since is None or reply.source_at is None:
        return False
    try:
        return reply.source_at // 1000 <= parsedate_to_datetime(since).timestamp()
    except ValueError:
        return False
