"""An HTTP server that answers what a test says, to the byte, and simulators in a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from contract.config import parse_config
from contract.sparkplug import Quality
from edge.sources import RestConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge.reading import Reading
    from edge.sources.rest import RestSource


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at_s: float


@dataclass(frozen=True)
class Said:
    """An answer: a document, bytes, or a function that writes to the connection."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class ScriptedApi(ThreadingHTTPServer):
    """Answers with what `script` makes of a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.script: Callable[[Asked], Any] = lambda _: Said({})
        self.asked: list[Asked] = []
        self.over = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client that left before its answer is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answering(BaseHTTPRequestHandler):
    server: ScriptedApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        asked = Asked(url.path, query, {k.lower(): v for k, v in self.headers.items()}, time.monotonic())
        self.server.asked.append(asked)
        said = self.server.script(asked)
        if callable(said):
            said(self)
            self.close_connection = True
            return
        said = said if isinstance(said, Said) else Said(said)
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        self.send_response(said.status)
        for name, value in ({"Content-Length": str(len(body))} | said.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def said() -> type[Said]:
    """An answer that has more to it than a document."""
    return Said


@pytest.fixture
def scripted_api() -> Iterator[ScriptedApi]:
    """The server; `over` is set when the test ends, for scripts that hang."""
    with ScriptedApi() as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield api
        finally:
            api.over.set()
            api.shutdown()
            thread.join()


class Gauges:
    """A source of levels at the scripted server, one request for each symbol unless a test says otherwise."""

    request: ClassVar[dict[str, Any]] = {
        "path": "/v1/{symbol}",
        "time": {"value": "t", "format": "unix_s"},
        "prefix": "{symbol}/",
        "metrics": [{"name": "level", "value": "v", "unit": "m"}],
    }
    now_ms = 1_800_000_000_123

    def __init__(self, url: str) -> None:
        self._url = url

    def config(self, request: dict[str, Any] | None = None, **more: Any) -> RestConfig:
        """The source's config; auth, limits and headers are the API's, all other keys its user's."""
        described = {"title": "Gauges", "base_url": self._url, "requests": [self.request | (request or {})]}
        described |= {key: more.pop(key) for key in ("auth", "limits", "headers") if key in more}
        document = {"type": "rest", "name": "gauges", "interval_s": 1, "symbols": ["a", "b"], "api": described}
        return parse_config(document | more, RestConfig, "edge.yaml")

    def run(self, config: RestConfig, work: Callable[..., Any], now_ms: Callable[[], int] | None = None) -> Any:
        """What is made of the open source."""

        async def opened() -> Any:
            async with config.open(now_ms or (lambda: self.now_ms)) as source:
                return await work(source)

        return asyncio.run(opened())

    @staticmethod
    async def poll(source: RestSource) -> list[Reading]:
        """One poll."""
        return await source.poll()

    @staticmethod
    def values(readings: list[Reading]) -> dict[str, Any]:
        """The values by metric, None for bad quality."""
        return {r.metric: r.value if r.quality == Quality.GOOD else None for r in readings}


@pytest.fixture
def gauges(scripted_api: ScriptedApi) -> Gauges:
    """The source that most tests are about."""
    return Gauges(scripted_api.url)


@dataclass(frozen=True)
class Site:
    """Simulators that run, by name, and the folder of their ledgers."""

    urls: dict[str, str]
    folder: Path

    def served(self, name: str) -> list[dict[str, Any]]:
        """The answers in a ledger."""
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if '"values"' in line]


@pytest.fixture(scope="module")
def run_simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Runs simulators by the command line, all of them in one process; they end with the module."""
    with ExitStack() as stack:
        yield lambda simulators, **env: stack.enter_context(_site(simulators, env, tmp_path_factory.mktemp("site")))


@contextmanager
def _site(simulators: list[dict[str, Any]], env: dict[str, str], folder: Path) -> Iterator[Site]:
    addresses, scenario = folder / "addresses.json", folder / "scenario.yaml"
    scenario.write_text(yaml.safe_dump({"ledger_dir": str(folder), "simulators": simulators}))
    command = [sys.executable, "-m", "simulators", "serve", str(scenario), "--addresses", str(addresses)]
    with (folder / "simulators.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | env, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not addresses.exists():
            assert process.poll() is None, (folder / "simulators.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Site({name: found["url"] for name, found in json.loads(addresses.read_text()).items()}, folder)
    finally:
        # Nothing of it is wanted any more, and dozens of servers take their time to stop in order.
        process.kill()
        process.wait(20)
