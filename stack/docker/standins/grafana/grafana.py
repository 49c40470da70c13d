#!/usr/bin/env python3
"""Answers /api/health as Grafana does, and with 503 where Grafana could not do its work."""

from __future__ import annotations

import json
import os
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DATABASE = ("timescaledb", 5432)
TIMEOUT_S = 2


def lacking() -> list[str]:
    """What Grafana would miss."""
    found = []
    provisioning = Path(os.environ["GF_PATHS_PROVISIONING"])
    if not Path(os.environ["GF_PATHS_CONFIG"]).read_text():
        found.append("there is no configuration")
    if not list((provisioning / "datasources").glob("*.y*ml")):
        found.append("no data source is provisioned")
    if not list((provisioning / "dashboards").glob("*.y*ml")):
        found.append("no folder of dashboards is provisioned")
    dashboards = Path(os.environ["HEADWATER_GRAFANA"], "dashboards")
    if not [path for path in dashboards.rglob("*.json") if json.loads(path.read_text())["uid"]]:
        found.append(f"{dashboards} holds no dashboard")
    if not os.environ.get("HEADWATER_DB_PASSWORD"):
        found.append("the data source has no password")
    if not Path(os.environ["GF_SECURITY_ADMIN_PASSWORD__FILE"]).read_text().strip():
        found.append("the administrator has no password")
    try:
        socket.create_connection(DATABASE, TIMEOUT_S).close()
    except OSError as exc:
        found.append(f"the database: {exc}")
    return found


class Health(BaseHTTPRequestHandler):
    """The one page."""

    def do_GET(self) -> None:
        """200, or 503 and why."""
        faults = lacking()
        self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK)
        self.end_headers()
        self.wfile.write(json.dumps({"database": "ok" if not faults else "failing", "faults": faults}).encode())

    do_HEAD = do_GET  # noqa: N815  # http.server's name


if __name__ == "__main__":
    # S104: inside a container, whose ports are published or not.
    ThreadingHTTPServer(("0.0.0.0", 3000), Health).serve_forever()  # noqa: S104  # see above
