"""HTTP over TLS: bounded in what it reads, in how long it waits, and in how many it serves at once."""

from __future__ import annotations

import logging
import math
import socket
import ssl
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Final, Self

from contract.enrolment import ENROL_PATH, MAX_REQUEST_BYTES, RENEW_PATH, Refusal, written
from fleet.broker import certificate_is_good
from fleet.errors import FleetError
from fleet.serve.desk import Desk, RefusedError
from fleet.serve.identity import server_context
from fleet.serve.limits import Limit, Seats, who

if TYPE_CHECKING:
    from contract.config import Config
    from fleet.home import Home

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 64
_AT_ONCE_OF_ONE: Final = 16
# From the first byte of TLS to the last of the answer.
_PATIENCE_S: Final = 15.0
_LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 64 * 1024
_EVERYBODY: Final = "everybody"
_LOOKED_AFTER_S: Final = 3600.0


class Endpoint(ThreadingMixIn, TCPServer):
    """The endpoint, listening from its making on; `serve_forever` answers. Raises FleetError.

    One address may ask 10 times at once and every 6 seconds after that, all together 100 times and 20 times a second:
    more is answered 429, and of ten times as many not even the handshake is done.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, home: Home, bind: str, port: int) -> None:
        self.desk = Desk(home)
        self.one = Limit(1 / 6, 10, time.monotonic)
        self.everybody = Limit(20, 100, time.monotonic)
        self._connections = (Limit(10 / 6, 100, time.monotonic), Limit(200, 1000, time.monotonic))
        self._home = home
        self._context = server_context(home)
        self._seats = Seats(_AT_ONCE, _AT_ONCE_OF_ONE)
        self._looked_at_s = -math.inf
        self.address_family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        try:
            super().__init__((bind, port), _Request)
        except OSError as exc:
            raise FleetError(f"{bind}:{port}: cannot be listened on: {exc.strerror}") from exc

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        return self

    def verify_request(self, _request: object, client_address: object) -> bool:
        """Whether somebody is served at all."""
        address = _address(client_address)
        one, everybody = self._connections
        if one.wait_s(who(address)) or everybody.wait_s(_EVERYBODY):
            logger.warning("%s: hung up on: too many connections", address)
            return False
        return True

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override] # socketserver's stub takes datagrams' pairs too
        """Serves somebody in a thread of his own, unless too many are served."""
        address = _address(client_address)
        if not self._seats.take(who(address)):
            logger.warning("%s: hung up on: too many are being served", address)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self._seats.free(who(address))
            raise

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override] # as above
        """Serves one connection."""
        address = _address(client_address)
        try:
            with self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as connection:
                self._serve(connection, client_address)
        except ssl.SSLCertVerificationError as exc:
            logger.warning("%s: refused: the certificate that it shows: %s", address, exc.verify_message)
        except OSError as exc:
            logger.info("%s: no request: %s", address, exc)
        finally:
            self._seats.free(who(address))

    def service_actions(self) -> None:
        """Now and then: the endpoint's own certificate is renewed in time, and the broker's is looked at."""
        if time.monotonic() - self._looked_at_s < _LOOKED_AFTER_S:
            return
        self._looked_at_s = time.monotonic()
        try:
            # Another one: that which a handshake in another thread uses may not be changed, OpenSSL crashes.
            self._context = server_context(self._home)
            if not certificate_is_good(self._home):
                logger.warning("the broker's certificate ends soon, or lacks a name: `fleet broker` renews it")
            for host in _hosts_that_end(self._home):
                logger.warning("the certificate of %s ends soon: `fleet host %s` makes another", host, host)
        except (FleetError, OSError):
            logger.exception("certificates cannot be looked after")

    def _serve(self, connection: ssl.SSLSocket, client_address: object) -> None:
        deadline = threading.Timer(_PATIENCE_S, _hang_up, [connection])
        deadline.daemon = True
        deadline.start()
        try:
            connection.do_handshake()
            self.finish_request(connection, client_address)
        finally:
            _linger(connection)
            deadline.cancel()


class _Request(BaseHTTPRequestHandler):
    """One request; the connection ends with it."""

    server: Endpoint
    connection: ssl.SSLSocket
    server_version = "headwater"
    sys_version = ""
    _retry_after_s = 0

    def do_POST(self) -> None:
        try:
            self._answer(HTTPStatus.OK, self._issued())
        except RefusedError as exc:
            logger.warning("%s: refused: %s", self.client_address[0], exc)
            self._answer(exc.status, Refusal(reason=exc.told[:500]))
        except FleetError:
            logger.exception("%s: failed", self.client_address[0])
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, Refusal(reason="the fleet's own fault: try again later"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Said at the level of what is of interest to nobody as long as all is well."""
        logger.debug("%s: %s", self.client_address[0], format % args)

    def _issued(self) -> Config:
        self._slow_down()
        if self.path == ENROL_PATH:
            return self.server.desk.enrol(self._body())
        if self.path == RENEW_PATH:
            return self.server.desk.renew(self._body(), self._serial())
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is nothing at {self.path[:80]!r}")

    def _slow_down(self) -> None:
        # What one is refused counts for nobody else.
        if wait_s := self.server.one.wait_s(who(self.client_address[0])) or self.server.everybody.wait_s(_EVERYBODY):
            self._retry_after_s = math.ceil(wait_s)
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, f"too many requests: again in {self._retry_after_s} s")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
        if len(length) > len(str(MAX_REQUEST_BYTES)) or int(length) > MAX_REQUEST_BYTES:
            reason = f"the request is longer than {MAX_REQUEST_BYTES} bytes"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        return self.rfile.read(int(length))

    def _serial(self) -> int | None:
        shown = self.connection.getpeercert()
        return int(str(shown["serialNumber"]), 16) if shown else None

    def _answer(self, status: HTTPStatus, message: Config) -> None:
        body = written(message)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", str(self._retry_after_s))
        self.end_headers()
        self.wfile.write(body)


def _hosts_that_end(home: Home) -> list[str]:
    """Host applications whose newest certificate ends soon: they do not renew it themselves."""
    newest = {host: home.registry.certificates_of(host)[-1:] for host in home.registry.hosts()}
    return [host for host, certificates in newest.items() for each in certificates if each.ends_at < home.good_until]


def _linger(connection: ssl.SSLSocket) -> None:
    """Lets the other side read why: a socket that is closed with something unread takes back what was said last."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_WR)
        connection.settimeout(_LINGER_S)
        left = _LINGER_BYTES
        while left > 0 and (read := len(socket.socket.recv(connection, _LINGER_BYTES))):
            left -= read
    except OSError:
        logger.debug("it was gone already")


def _hang_up(connection: ssl.SSLSocket) -> None:
    try:
        # Beneath TLS, whose state is the other thread's.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        logger.debug("it was gone already")


def _address(client_address: object) -> str:
    return str(client_address[0]) if isinstance(client_address, tuple) else str(client_address)
