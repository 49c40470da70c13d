"""The fleet's endpoint, as a device asks it: a request over TLS, a certificate or the reason why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from contract.config import ConfigError
from contract.enrolment import MAX_ANSWER_BYTES, Issued, Refusal, read_message, written
from edge.enrol.faults import NotYetError, RefusedError
from edge.errors import IdentityError
from edge.tls import TellingSocket, explain

if TYPE_CHECKING:
    from pathlib import Path

    from contract.config import Config

# For each step (connecting, TLS, sending, a piece of the answer), and for all of them.
_STEP_TIMEOUT_S: Final = 10.0
_TIMEOUT_S: Final = 30.0
_FIRST_REFUSAL: Final = 400
_FIRST_FAILURE: Final = 500
# They say that it may be otherwise soon; all others between those two do not.
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_LONGEST_PAUSE_S: Final = 600.0


class Endpoint:
    """An endpoint that shows a certificate of the fleet's root; no other gets to hear anything.

    `identity_files` are the certificate and the key that we show, where there are any.
    """

    def __init__(self, url: str, ca_pem: str, identity_files: tuple[Path, Path] | None = None) -> None:
        self.url = url.rstrip("/")
        self._ca_pem = ca_pem
        self._identity_files = identity_files

    async def ask(self, path: str, request: Config) -> str:
        """The chain of a certificate; raises RefusedError, NotYetError, or another IdentityError for a useless root."""
        # The standard library, in a thread: httpx would take 10 MB of every agent for one request in weeks, and asyncio
        # throws away what the other side said before it hung up.
        return await asyncio.to_thread(self._ask, path, written(request))

    def _ask(self, path: str, content: bytes) -> str:
        deadline_s = time.monotonic() + _TIMEOUT_S
        try:
            with contextlib.closing(self._connection()) as connection:
                path = urlsplit(self.url).path + path
                connection.request("POST", path, content, {"Content-Type": "application/json"})
                # It outlives the connection, whose socket it closes.
                with connection.getresponse() as response:
                    return self._certificate(response, self._body(response, deadline_s))
        except (OSError, http.client.HTTPException, ValueError) as exc:  # ValueError: a URL that cannot be
            raise NotYetError(f"{self.url}: {explain(exc) or str(exc) or type(exc).__name__}") from exc

    def _connection(self) -> http.client.HTTPSConnection:
        at = urlsplit(self.url)
        return http.client.HTTPSConnection(at.hostname or "", at.port, timeout=_STEP_TIMEOUT_S, context=self._context())

    def _body(self, response: http.client.HTTPResponse, deadline_s: float) -> bytes:
        body = bytearray()
        while piece := response.read1(MAX_ANSWER_BYTES):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise NotYetError(f"{self.url}: the answer is over {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline_s:
                raise NotYetError(f"{self.url}: no whole answer in {_TIMEOUT_S:g} s")
        return bytes(body)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.sslsocket_class = TellingSocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=self._ca_pem)
            if self._identity_files is not None:
                context.load_cert_chain(*self._identity_files)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            raise IdentityError(f"certificates cannot be used: {exc}") from exc
        return context

    def _certificate(self, response: http.client.HTTPResponse, body: bytes) -> str:
        status = response.status
        try:
            if status == HTTPStatus.OK:
                return read_message(body, Issued, "the answer").certificate
            reason = read_message(body, Refusal, "the answer").reason
        except ConfigError as exc:
            reason = f"status {status}, and what came with it cannot be read" if status != HTTPStatus.OK else str(exc)
        if _FIRST_REFUSAL <= status < _FIRST_FAILURE and status not in _PASSING:
            raise RefusedError(f"{self.url} refuses: {reason}")
        raise NotYetError(f"{self.url}: {reason}", _pause_s(response))


def _pause_s(response: http.client.HTTPResponse) -> float:
    """How long it asks us to wait; a date instead of seconds is not looked at, for our clock may be wrong."""
    asked = response.headers.get("Retry-After") or ""
    return min(float(asked), _LONGEST_PAUSE_S) if asked.isascii() and asked.isdigit() else 0.0
