"""How a role tells its state: GET /healthz on loopback, as JSON."""

from __future__ import annotations

import json
import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class HealthServer:
    """Serves a state as JSON while its context is open; raises OSError when the port cannot be had."""

    def __init__(self, port: int, state: Callable[[], dict[str, object]]) -> None:
        class Healthz(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/healthz":
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                body = json.dumps(state()).encode()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
                logger.debug(format, *args)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Healthz)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that is served."""
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        logger.info("health on http://127.0.0.1:%d/healthz", self.port)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
