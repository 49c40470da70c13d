"""The shapes of all six simulated APIs as their providers document them, their refusals, and what may go wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from contract.config import ConfigError, parse_config
from simulators.api_faults import ApiFault, FaultPlan
from simulators.exchange import ExchangeConfig
from simulators.exchange.trading import Trading, TradingHours
from simulators.reception import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

QUERIES = {
    "finnhub": "/api/v1/quote?symbol=IBM",
    "alpha-vantage": "/query?function=GLOBAL_QUOTE&symbol=IBM",
    "stooq": "/q/l/?s=ibm.us&f=sd2t2ohlcv&h&e=csv",
    "open-meteo": "/v1/forecast?latitude=52.5&longitude=13.4&current=temperature_2m",
    "openweathermap": "/data/2.5/weather?lat=52.5&lon=13.4&units=metric",
    "nws": "/stations/KSEA/observations/latest",
}
STOCKS = ("finnhub", "alpha-vantage", "stooq")
WHO = {"User-Agent": "headwater tests (ops@example.com)"}


def simulator_of(provider: str, **more: Any) -> dict[str, Any]:
    if provider in STOCKS:
        return {"type": "exchange", "name": "x", "symbols": ["IBM", "MSFT"], **more}
    return {"type": "weather", "name": "w", "interval_s": 3600, **more}


def ask(simulator: Any, provider: str, **headers: str) -> httpx.Response:
    return httpx.get(simulator.url + QUERIES[provider], headers=WHO | headers, timeout=5)


def test_alpha_vantages_quote_is_texts_of_the_last_close(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(**simulator_of("alpha-vantage"))
    quote = ask(exchange, "alpha-vantage").json()["Global Quote"]
    assert list(quote) == [
        "01. symbol",
        "02. open",
        "03. high",
        "04. low",
        "05. price",
        "06. volume",
        "07. latest trading day",
        "08. previous close",
        "09. change",
        "10. change percent",
    ]
    assert all(isinstance(value, str) for value in quote.values())
    exchange.wait_for("the answer noted", lambda x: x.served())
    (noted,) = exchange.served()
    closed = datetime.fromtimestamp(noted.source_at / 1000, ZoneInfo("America/New_York"))
    assert (closed.date().isoformat(), closed.hour, closed.minute) == (quote["07. latest trading day"], 16, 0)
    assert noted.values["IBM/price"] == float(quote["05. price"])
    unknown = httpx.get(f"{exchange.url}/query?function=GLOBAL_QUOTE&symbol=NONE")
    assert unknown.json() == {"Global Quote": {}}
    assert "Error Message" in httpx.get(f"{exchange.url}/query?function=OTHER&symbol=IBM").json()


def test_stooqs_rows_are_by_warsaws_clock(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(**simulator_of("stooq"))
    answer = httpx.get(f"{exchange.url}/q/l/?s=ibm.us+none.us+MSFT&f=sd2t2ohlcv&h&e=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    header, ibm, none, msft = answer.text.splitlines()
    assert header == "Symbol,Date,Time,Open,High,Low,Close,Volume"
    assert none == "NONE.US,N/D,N/D,N/D,N/D,N/D,N/D,N/D"
    symbol, date, clock, *_ = ibm.split(",")
    at = datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=ZoneInfo("Europe/Warsaw"))
    assert symbol == "IBM.US"
    assert abs(time.time() - at.timestamp()) < 5
    assert msft.startswith("MSFT,")
    exchange.wait_for("the answer noted", lambda x: x.served())
    (noted,) = exchange.served()
    assert {name.split("/")[0] for name in noted.values} == {"ibm.us", "MSFT"}
    assert noted.source_at == at.timestamp() * 1000


def test_openweathermaps_weather(start_simulator: Callable[..., Any]) -> None:
    station = start_simulator(**simulator_of("openweathermap"))
    document = ask(station, "openweathermap").json()
    assert {"coord", "weather", "main", "wind", "clouds", "dt", "cod", "visibility"} <= set(document)
    assert {"temp", "feels_like", "pressure", "humidity", "grnd_level"} <= set(document["main"])
    assert document["dt"] % 3600 == 0
    missing = httpx.get(f"{station.url}/data/2.5/weather?units=metric")
    assert (missing.status_code, missing.json()) == (400, {"cod": "400", "message": "Nothing to geocode"})


def test_the_national_weather_services_observation(start_simulator: Callable[..., Any]) -> None:
    station = start_simulator(**simulator_of("nws"))
    answer = ask(station, "nws")
    assert answer.headers["content-type"] == "application/geo+json"
    observed = answer.json()["properties"]
    assert datetime.fromisoformat(observed["timestamp"]).tzinfo == UTC
    assert observed["temperature"]["unitCode"] == "wmoUnit:degC"
    assert observed["temperature"]["qualityControl"] == "V"
    assert observed["barometricPressure"]["value"] > 90_000
    nobody = httpx.get(station.url + QUERIES["nws"])
    unknown = httpx.get(f"{station.url}/stations/XXXX/observations/latest", headers=WHO)
    for refused, status in ((nobody, 403), (unknown, 404)):
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["status"] == status


@pytest.mark.parametrize(
    ("provider", "status", "words"),
    [
        ("finnhub", 429, "API limit reached"),
        ("alpha-vantage", 200, "rate limit is 25 requests per day"),
        ("stooq", 200, "Exceeded the daily hits limit"),
        ("open-meteo", 429, "Daily API request limit exceeded"),
        ("openweathermap", 429, "exceeding of requests limitation"),
        ("nws", 429, "Too Many Requests"),
    ],
)
def test_each_refuses_in_its_own_words(
    start_simulator: Callable[..., Any], provider: str, status: int, words: str
) -> None:
    simulator = start_simulator(**simulator_of(provider, requests_per_day=1))
    assert ask(simulator, provider).status_code == 200
    refused = ask(simulator, provider)
    assert refused.status_code == status
    assert words in refused.text
    simulator.wait_for("the answer noted", lambda s: s.served())
    assert len(simulator.served()) == 1


def test_alpha_vantage_says_too_fast_in_other_words_than_too_often(start_simulator: Callable[..., Any]) -> None:
    exchange = start_simulator(**simulator_of("alpha-vantage", requests_per_minute=1))
    # A minute may turn over between two of them; not between all three.
    answers = [ask(exchange, "alpha-vantage").text for _ in range(3)]
    assert any("more sparingly (1 request per second)" in answer for answer in answers)


def test_a_days_limit_is_lifted_when_the_day_turns() -> None:
    limit = RateLimit(1, 86_400)
    assert [limit.refused_for_s(86_400 + s) for s in (0, 100, 86_399)] == [None, 86_300, 1]
    assert limit.refused_for_s(2 * 86_400) is None


@pytest.mark.parametrize("provider", sorted(set(QUERIES) - {"finnhub", "stooq"}))
def test_who_knows_it_already_is_not_told_again(start_simulator: Callable[..., Any], provider: str) -> None:
    simulator = start_simulator(**simulator_of(provider))
    first = ask(simulator, provider)
    tag, changed = first.headers["etag"], first.headers["last-modified"]
    known = [
        ask(simulator, provider, **{"If-None-Match": tag}),
        ask(simulator, provider, **{"If-None-Match": f'"other", W/{tag}'}),
        ask(simulator, provider, **{"If-Modified-Since": changed}),
    ]
    assert [(answer.status_code, answer.content) for answer in known] == [(304, b"")] * 3
    assert ask(simulator, provider, **{"If-None-Match": '"other"', "If-Modified-Since": changed}).status_code == 200
    assert ask(simulator, provider, **{"If-Modified-Since": "yesterday"}).status_code == 200
    simulator.wait_for("the answers noted", lambda s: len(s.served()) == 3)


@pytest.mark.parametrize("kind", ["truncated", "html", "wrong_types", "unavailable", "unit_change"])
def test_what_is_spoilt_is_not_in_the_ledger(start_simulator: Callable[..., Any], kind: str) -> None:
    station = start_simulator(**simulator_of("nws", faults=[{"kind": kind, "duration_s": 1000}]))
    if kind == "truncated":
        with pytest.raises(httpx.RemoteProtocolError):
            ask(station, "nws")
    else:
        answer = ask(station, "nws")
        assert {
            "html": "Maintenance" in answer.text,
            "unavailable": answer.status_code == 503,
            "wrong_types": '"value": {"raw":' in answer.text,
            "unit_change": "wmoUnit:degF" in answer.text,
        }[kind]
    assert httpx.get(f"{station.url}/stations/XXXX/observations/latest", headers=WHO).status_code == 404
    assert station.served() == []


@pytest.mark.parametrize("kind", ["silent", "dribble"])
def test_a_silent_server_holds_up_nobody_else(start_simulator: Callable[..., Any], kind: str) -> None:
    station = start_simulator(**simulator_of("nws", faults=[{"kind": kind, "duration_s": 1000}]))
    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.05, headers=WHO) as client:
        client.get(station.url + QUERIES["nws"])
    if kind == "dribble":
        assert httpx.get(f"{station.url}/stations/XXXX/observations/latest", headers=WHO).status_code == 404
    assert station.served() == []


def test_faults_begin_and_end() -> None:
    plan = FaultPlan([ApiFault(kind="html", start_s=10, duration_s=5), ApiFault(kind="silent", duration_s=12)], 100.0)
    assert [plan.at(100.0 + s) for s in (0, 9, 11, 14.9, 15)] == ["silent", "silent", "html", "html", None]


def test_while_the_exchange_is_closed_the_quote_is_that_of_the_close() -> None:
    config = parse_config({"type": "exchange", "name": "x"}, ExchangeConfig, "scenario.yaml")
    trading = Trading(config.quotes(), TradingHours())
    friday_close = 1_795_208_400  # 2026-11-20, 16:00 in New York
    for at_s in (friday_close, friday_close + 1, friday_close + 86_400, friday_close + 2 * 86_400 + 62_999):
        quote = trading.now("IBM", at_s)
        assert quote is not None
        assert quote.at_s == friday_close
    opening = trading.now("IBM", friday_close + 2 * 86_400 + 63_060)
    assert opening is not None
    assert opening.at_s > friday_close
    eod = trading.at_close("IBM", friday_close + 86_400, ZoneInfo("America/New_York"))
    assert eod is not None
    assert eod.at_s == friday_close


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"hours": {"zone": "Mars"}}, "no time zone"),
        ({"hours": {"opens": "17:00"}}, "not after opens"),
        ({"faults": [{"kind": "gone", "duration_s": 1}]}, "faults.0.kind"),
        ({"requests_per_day": 0}, "requests_per_day"),
    ],
)
def test_wrong_access_is_named(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_config({"type": "exchange", "name": "x", **keys}, ExchangeConfig, "scenario.yaml")
