"""The stocks source against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from contract.config import ConfigError, parse_config
from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources import StocksConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge.reading import Reading
    from edge.sources.stocks import StocksSource

T0 = 1_700_000_000
NOW_MS = 1_800_000_000_123
QUOTE = {"c": 101.5, "d": 1.5, "dp": 1.5, "h": 102, "l": 99.25, "o": 100, "pc": 100.0, "t": T0}
PRICES = {"price": 101.5, "open": 100.0, "high": 102.0, "low": 99.25, "previous_close": 100.0}


class Exchange(ThreadingHTTPServer):
    """Answers each symbol as a test says: a document, raw bytes, a status, or seconds to hang."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.over = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client that left before its answer is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    server: Exchange
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        symbol = parse_qs(url.query)["symbol"][0]
        self.server.asked.append(symbol)
        self.server.tokens.append(self.headers["X-Finnhub-Token"])
        answer = self.server.answers[symbol] if url.path == "/api/v1/quote" else 404
        if isinstance(answer, float):
            self.server.over.wait(answer)
            answer = QUOTE
        status = answer if isinstance(answer, int) else 200
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def an_exchange(**answers: Any) -> Iterator[Exchange]:
    with Exchange() as exchange:
        exchange.answers = answers
        thread = threading.Thread(target=exchange.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield exchange
        finally:
            exchange.over.set()
            exchange.shutdown()
            thread.join()


def config_of(exchange: Exchange, **options: Any) -> StocksConfig:
    document = {"type": "stocks", "name": "exchange", "interval_s": 1, "base_url": exchange.url}
    return StocksConfig.model_validate(document | {"symbols": list(exchange.answers)} | options)


async def polled(config: StocksConfig, times: int = 1) -> list[list[Reading]]:
    async with config.open(lambda: NOW_MS) as source:
        return [await source.poll() for _ in range(times)]


def good(readings: list[Reading]) -> dict[str, Any]:
    return {r.metric: r.value for r in readings if r.quality == Quality.GOOD}


def bad(readings: list[Reading]) -> set[str]:
    return {r.metric for r in readings if r.quality == Quality.BAD and r.value is None and r.sampled_at_ms == NOW_MS}


def test_a_quote_becomes_readings_of_its_own_time() -> None:
    with an_exchange(ACME=QUOTE) as exchange:
        config = config_of(exchange)
        [readings] = asyncio.run(polled(config))
    assert good(readings) == {f"ACME/{name}": price for name, price in PRICES.items()}
    assert {r.sampled_at_ms for r in readings} == {T0 * 1000}
    assert {r.datatype for r in readings} == {DataType.DOUBLE}
    assert [m.name for m in config.metrics()] == [r.metric for r in readings]


def test_the_same_quote_again_is_no_reading_and_a_new_one_is() -> None:
    async def poll(source: StocksSource, exchange: Exchange) -> None:
        exchange.answers["A"] = QUOTE | {"c": 1}
        assert good(await source.poll()) != {}
        exchange.answers["A"] = QUOTE | {"c": 2}
        assert await source.poll() == []
        exchange.answers["A"] = QUOTE | {"c": 3, "t": T0 + 1}
        assert good(await source.poll())["A/price"] == 3.0

    async def run(exchange: Exchange) -> None:
        async with config_of(exchange).open(lambda: NOW_MS) as source:
            await poll(source, exchange)

    with an_exchange(A=QUOTE) as exchange:
        asyncio.run(run(exchange))


@pytest.mark.parametrize(
    "answer",
    [
        {k: v for k, v in QUOTE.items() if k != "c"},
        QUOTE | {"c": None},
        QUOTE | {"c": "101.5"},
        QUOTE | {"c": True},
        QUOTE | {"h": 10**400},
        QUOTE | {"t": float(T0)},
        QUOTE | {"t": T0 * 1000},
        QUOTE | {"t": -1},
        {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0},
        b"<html>maintenance</html>",
        json.dumps(QUOTE).encode().replace(b"101.5", b"NaN"),
        b"[" * 5000,
        [QUOTE],
        b" " * 70_000 + json.dumps(QUOTE).encode(),
        500,
        404,
    ],
)
def test_a_bad_symbol_spoils_only_itself(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with an_exchange(A=QUOTE, B=answer, C=QUOTE) as exchange:
        first, second = asyncio.run(polled(config_of(exchange), 2))
    assert set(good(first)) == {f"{symbol}/{name}" for symbol in "AC" for name in PRICES}
    assert bad(first) == bad(second) == {f"B/{name}" for name in PRICES}
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert f"{exchange.url}/api/v1/quote?symbol=B" in warnings[0]


def test_a_symbol_that_comes_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def run(exchange: Exchange) -> None:
        async with config_of(exchange).open(lambda: NOW_MS) as source:
            assert bad(await source.poll())
            exchange.answers["B"] = QUOTE
            assert good(await source.poll())["B/price"] == 101.5

    with an_exchange(A=QUOTE, B=500) as exchange, caplog.at_level("INFO"):
        asyncio.run(run(exchange))
    assert [r.getMessage() for r in caplog.records if r.levelname == "INFO"] == ["exchange: B is quoted again"]


@pytest.mark.parametrize("status", [429, 401, 403])
def test_a_server_that_refuses_is_not_asked_for_the_rest(status: int) -> None:
    with an_exchange(A=QUOTE, B=status, C=QUOTE) as exchange:
        [readings] = asyncio.run(polled(config_of(exchange)))
        assert exchange.asked == ["A", "B"]
    assert set(good(readings)) == {f"A/{name}" for name in PRICES}
    assert bad(readings) == {f"{symbol}/{name}" for symbol in "BC" for name in PRICES}


def test_a_server_that_hangs_at_one_symbol_does_not_cost_the_others() -> None:
    async def run(exchange: Exchange) -> list[Reading]:
        async with config_of(exchange, timeout_s=0.5).open(lambda: NOW_MS) as source:
            async with asyncio.timeout(0.5):
                return await source.poll()

    with an_exchange(A=QUOTE, B=30.0) as exchange:
        readings = asyncio.run(run(exchange))
    assert good(readings)["A/price"] == 101.5
    assert bad(readings) == {f"B/{name}" for name in PRICES}


def test_a_poll_that_is_cancelled_has_not_seen_its_quotes() -> None:
    async def run(exchange: Exchange) -> None:
        async with config_of(exchange, timeout_s=30).open(lambda: NOW_MS) as source:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.poll(), 0.3)
            assert exchange.asked == ["A", "B"]
            exchange.answers["B"] = QUOTE
            assert set(good(await source.poll())) >= {"A/price", "B/price"}

    with an_exchange(A=QUOTE, B=30.0) as exchange:
        asyncio.run(run(exchange))


@pytest.mark.parametrize("answer", [500, 429, b"no", QUOTE | {"t": "now"}])
def test_when_no_symbol_answers_the_poll_fails_with_the_url_and_what_was_found(answer: Any) -> None:
    with an_exchange(A=answer, B=answer) as exchange:
        with pytest.raises(SourceError, match=r"/api/v1/quote\?symbol=A") as caught:
            asyncio.run(polled(config_of(exchange)))
        shown = {bytes: "'no'", int: f"HTTP {answer}", dict: "'t' is 'now'"}[type(answer)]
        assert shown in str(caught.value)


def test_a_server_that_is_not_there() -> None:
    with an_exchange(A=QUOTE) as exchange:
        config = config_of(exchange)
    with pytest.raises(SourceError, match=config.base_url):
        asyncio.run(polled(config))


def test_the_token_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QUOTES_TOKEN", "t0ken")
    (tmp_path / "token").write_text("from-file\n", encoding="utf-8")
    with an_exchange(A=401) as exchange:
        for option in ({"token_env": "QUOTES_TOKEN"}, {"token_file": tmp_path / "token"}, {}):
            with pytest.raises(SourceError) as caught:
                asyncio.run(polled(config_of(exchange, **option)))
            assert "t0ken" not in str(caught.value)
        assert exchange.tokens == ["t0ken", "from-file", None]


@pytest.mark.parametrize("option", [{"token_env": "QUOTES_TOKEN"}, {"token_file": "/nowhere/token"}])
def test_a_token_that_is_not_there_is_an_error(option: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUOTES_TOKEN", raising=False)
    with an_exchange(A=QUOTE) as exchange:
        with pytest.raises(SourceError, match=f"exchange: token_.*{next(iter(option.values()))}"):
            asyncio.run(polled(config_of(exchange, **option)))
        assert exchange.asked == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"symbols": []}, "symbols"),
        ({"symbols": ["A", "A"]}, "twice"),
        ({"provider": "other"}, "provider"),
        ({"token_env": "A", "token_file": "b"}, "exclude each other"),
        ({"base_url": "finnhub.io"}, "base_url"),
        ({"token": "secret"}, "not a known key"),
    ],
)
def test_wrong_stocks_configurations(change: dict[str, Any], complaint: str) -> None:
    document = {"type": "stocks", "name": "exchange", "interval_s": 1, "symbols": ["A"]} | change
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document, StocksConfig, "edge.yaml")
