from __future__ import annotations

import itertools
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.config import ConfigError, parse_config
from simulators.errors import SimulatorError
from simulators.exchange import ExchangeConfig
from simulators.exchange.market import REGIMES, Clock, Listed, Market, u_shape
from simulators.reception import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

SYMBOLS = ("AAPL", "IBM", "MSFT")
NOW_S = 1_795_353_063


def _market(seed: int = 7, session_s: int = 600, **keys: Any) -> Market:
    listed = [Listed(symbol=symbol, **keys) for symbol in SYMBOLS]
    return Market(seed, listed, Clock(session_s, 1))


def _prices(market: Market, sessions: range, session_s: int = 600, every: int = 1) -> np.ndarray[Any, Any]:
    """Prices of (symbols, sessions, ticks)."""
    ticks = [[s * session_s + t for t in range(0, session_s, every)] for s in sessions]
    found = [[[market.quote(symbol, at) for at in session] for session in ticks] for symbol in SYMBOLS]
    return np.array([[[quote.price for quote in session if quote] for session in symbol] for symbol in found])


@given(at_s=st.integers(1_500_000_000, 2_500_000_000), symbol=st.sampled_from(SYMBOLS))
@settings(max_examples=50, deadline=None)
def test_the_same_seed_gives_the_same_quote_whatever_was_asked_before(at_s: int, symbol: str) -> None:
    asked = _market()
    for earlier in (at_s - 10_000, at_s + 7, at_s - 1):
        asked.quote(symbol, earlier)
    assert asked.quote(symbol, at_s) == _market().quote(symbol, at_s)
    assert asked.quote(symbol, at_s) != _market(seed=8).quote(symbol, at_s)


@given(at_s=st.integers(1_500_000_000, 2_500_000_000), symbol=st.sampled_from(SYMBOLS))
@settings(max_examples=50, deadline=None)
def test_a_quote_is_consistent_in_itself(at_s: int, symbol: str) -> None:
    quote = _market().quote(symbol, at_s)
    assert quote is not None
    assert quote.at_s == at_s
    assert 0 < quote.low <= min(quote.open, quote.price) <= max(quote.open, quote.price) <= quote.high
    finnhub = quote.to_finnhub()
    assert finnhub["d"] == pytest.approx(quote.price - quote.previous_close, abs=0.005001)
    assert finnhub["dp"] == pytest.approx(100 * (quote.price / quote.previous_close - 1), abs=1e-4)
    assert all(round(value, 2) == value for value in quote.to_metrics(symbol).values())


def test_high_and_low_are_those_of_the_session_so_far() -> None:
    market, start = _market(), NOW_S // 600 * 600
    quotes = [quote for at in range(start, start + 600) if (quote := market.quote("IBM", at))]
    prices = [quote.price for quote in quotes]
    assert [quote.high for quote in quotes] == list(itertools.accumulate(prices, max))
    assert [quote.low for quote in quotes] == list(itertools.accumulate(prices, min))
    assert {quote.open for quote in quotes} == {prices[0]}


def test_a_session_starts_from_the_close_before_it() -> None:
    market, start = _market(), NOW_S // 600 * 600
    for session in range(5):
        closing = market.quote("IBM", start + 600 * session + 599)
        following = market.quote("IBM", start + 600 * (session + 1))
        assert closing is not None
        assert following is not None
        assert following.previous_close == closing.price


def test_symbols_move_together_by_their_beta() -> None:
    together = _prices(_market(beta=1.0, volatility=0.01), range(3000, 3040), every=30)
    apart = _prices(_market(beta=0.0, volatility=0.01), range(3000, 3040), every=30)
    moves = [np.diff(np.log(prices), axis=2).reshape(len(SYMBOLS), -1) for prices in (together, apart)]
    shared, own = (np.corrcoef(move)[0, 1] for move in moves)
    assert 0.35 < shared < 0.65
    assert abs(own) < 0.15


def test_volatility_is_u_shaped_and_switches_regimes() -> None:
    moves = np.diff(np.log(_prices(_market(price=100_000), range(3000, 3100), every=10)), axis=2)
    by_time = np.sqrt(np.mean(moves**2, axis=(0, 1)))
    open_to_close = by_time[:10].mean(), by_time[25:40].mean(), by_time[-10:].mean()
    assert open_to_close[0] > 1.5 * open_to_close[1] < open_to_close[2]
    # A mixture of volatilities has heavier tails than the normal distribution's 3; the U's share is taken out.
    scaled = moves / by_time
    assert np.mean(scaled**4) / np.mean(scaled**2) ** 2 > 3.8
    assert np.mean(u_shape(600) ** 2) == pytest.approx(1)
    assert len(REGIMES) == 3


def test_prices_stay_near_where_they_are_listed() -> None:
    market = Market(3, [Listed(symbol="X", price=50)], Clock(600, 1))
    prices = [quote.price for at in range(0, 2_000_000_000, 40_000_000) if (quote := market.quote("X", at))]
    assert 20 < min(prices) < 50 < max(prices) < 125


def test_a_client_sees_finnhubs_shape_and_the_ledger_has_what_it_saw(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(type="exchange", name="x", seed=7, symbols=list(SYMBOLS), session_s=600)
    before = int(time.time())
    seen = []
    for symbol in SYMBOLS:
        answer = httpx.get(f"{exchange.url}/api/v1/quote", params={"symbol": symbol})
        assert answer.status_code == 200
        seen.append((symbol, answer.json()))
    assert [set(quote) for _, quote in seen] == [set("cdhlopt") - {"p"} | {"dp", "pc"}] * 3
    exchange.wait_for("three answers noted", lambda x: len(x.served()) == 3)
    for (symbol, quote), noted in zip(seen, exchange.served(), strict=True):
        assert before <= quote["t"] <= time.time()
        assert noted.source_at == 1000 * quote["t"]
        names = {"price": "c", "open": "o", "high": "h", "low": "l", "previous_close": "pc"}
        assert noted.values == {f"{symbol}/{name}": quote[key] for name, key in names.items()}
        replayed = _market().quote(symbol, quote["t"])
        assert replayed is not None
        assert replayed.to_finnhub() == quote


def test_a_quote_does_not_change_within_its_tick(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(type="exchange", name="x", tick_s=3600, session_s=7200, symbols=["IBM"])
    first, second = (httpx.get(f"{exchange.url}/api/v1/quote?symbol=IBM").json() for _ in range(2))
    assert first == second
    assert first["t"] % 3600 == 0


def test_an_unknown_symbol_is_answered_with_zeros_and_not_noted(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(type="exchange", name="x", symbols=["IBM"])
    answer = httpx.get(f"{exchange.url}/api/v1/quote?symbol=NONE")
    assert (answer.status_code, answer.json()) == (
        200,
        {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0},
    )
    assert httpx.head(f"{exchange.url}/api/v1/quote?symbol=IBM").status_code == 200
    httpx.get(f"{exchange.url}/api/v1/quote?symbol=IBM")
    exchange.wait_for("the known symbol noted", lambda x: len(x.served()) > 0)
    assert len(exchange.served()) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/quote", 400),
        ("GET", "/api/v1/quote?symbol=", 400),
        ("GET", "/api/v1/quote?symbol=IBM&symbol=AAPL", 400),
        ("GET", "/api/v1/candles?symbol=IBM", 404),
        ("POST", "/api/v1/quote?symbol=IBM", 405),
    ],
)
def test_a_wrong_request_is_refused(start_simulator: Callable[..., Any], method: str, path: str, status: int) -> None:
    exchange = start_simulator(type="exchange", name="x", symbols=["IBM"])
    assert httpx.request(method, exchange.url + path).status_code == status
    assert exchange.served() == []


def test_bytes_that_are_no_http_are_refused_and_stop_nothing(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(type="exchange", name="x", symbols=["IBM"])
    address = httpx.URL(exchange.url)
    with socket.create_connection((address.host, address.port), timeout=5) as connection:
        connection.sendall(b"\x00\xff\x00 rubbish\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{exchange.url}/api/v1/quote?symbol=IBM").status_code == 200


def test_the_token_is_asked_for(start_simulator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TOKEN", "s3cret")
    exchange = start_simulator(type="exchange", name="x", symbols=["IBM"], token_env="TEST_TOKEN")
    url = f"{exchange.url}/api/v1/quote?symbol=IBM"
    refused = httpx.get(url), httpx.get(f"{url}&token=wrong"), httpx.get(url, headers={"X-Finnhub-Token": "ß".encode()})
    assert [answer.status_code for answer in refused] == [401, 401, 401]
    assert "error" in refused[0].json()
    assert httpx.get(f"{url}&token=s3cret").status_code == 200
    assert httpx.get(url, headers={"X-Finnhub-Token": "s3cret"}).status_code == 200


def test_a_token_variable_that_is_not_set_is_named(
    start_simulator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_TOKEN", raising=False)
    with pytest.raises(SimulatorError, match="TEST_TOKEN"):
        start_simulator(type="exchange", name="x", token_env="TEST_TOKEN")


def test_too_many_requests_are_told_when_to_come_again(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(type="exchange", name="x", symbols=["IBM"], requests_per_minute=2)
    answers = [httpx.get(f"{exchange.url}/api/v1/quote?symbol=IBM") for _ in range(5)]
    # A minute may turn over among the five; it cannot twice.
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) in {1, 2, 3}
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert len(exchange.served()) <= 4


def test_the_limit_is_lifted_when_the_minute_turns() -> None:
    limit = RateLimit(2)
    assert [limit.refused_for_s(60 + second) for second in (0, 30, 45, 59)] == [None, None, 15, 1]
    assert limit.refused_for_s(120) is None


def test_a_taken_port_is_named(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(type="exchange", name="x")
    port = httpx.URL(exchange.url).port
    with pytest.raises(SimulatorError, match=f"cannot listen at 127.0.0.1:{port}"):
        start_simulator(type="exchange", name="y", port=port)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"session_s": 100, "tick_s": 7}, "not a whole number of ticks"),
        ({"symbols": ["A", "B", {"symbol": "A"}]}, "listed twice: A"),
        ({"symbols": []}, "symbols"),
        ({"symbols": ["A B"]}, "symbols.0.symbol"),
        ({"tick": 1}, "not a known key"),
    ],
)
def test_a_wrong_config_is_named(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_config({"type": "exchange", "name": "x", **keys}, ExchangeConfig, "scenario.yaml")


def test_quotes_survive_json_to_the_last_bit() -> None:
    quote = _market().quote("IBM", NOW_S)
    assert quote is not None
    assert json.loads(json.dumps(quote.to_metrics("IBM"))) == quote.to_metrics("IBM")
