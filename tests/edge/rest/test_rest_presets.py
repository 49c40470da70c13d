"""Each preset against the simulator that has its provider's shape, over real HTTP; only base_url differs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import parse_config
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources import RestConfig
from edge.sources.rest.api import preset_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.reading import Reading

KEY = "k3y/of+tests"
PLACE = {"latitude": 52.52, "longitude": 13.41}
USES: dict[str, dict[str, Any]] = {
    "finnhub": {"symbols": ["AAPL", "^GSPC", "BRK.B", "EUR/USD"], "secret_env": "REST_KEY"},
    "alpha-vantage": {"symbols": ["AAPL"], "secret_env": "REST_KEY", "interval_s": 7200},
    "stooq": {"symbols": ["AAPL.US", "ibm.us", "^gspc"], "secret_env": "REST_KEY", "interval_s": 600},
    "open-meteo": {**PLACE, "secret_env": "REST_KEY"},
    "openweathermap": {**PLACE, "secret_env": "REST_KEY"},
    "nws": {"variables": {"station": "KSEA", "contact": "ops@example.com"}},
}
STOCKS = ("finnhub", "alpha-vantage", "stooq")
FAULTS = ("silent", "dribble", "truncated", "html", "wrong_types", "unavailable", "unit_change")


def use_of(preset: str, url: str, **more: Any) -> RestConfig:
    document = {"type": "rest", "name": "api", "interval_s": 60, "preset": preset, "base_url": url}
    return parse_config(document | USES[preset] | more, RestConfig, "edge.yaml")


async def polled(config: RestConfig) -> list[Reading]:
    async with config.open(lambda: time.time_ns() // 1_000_000) as source:
        return await source.poll()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_KEY", KEY)


@pytest.fixture(scope="module")
def site(run_simulators: Callable[..., Any]) -> Any:
    """For each preset a simulator, and one that answers once a day; for each fault one of both kinds."""
    exchange = {"type": "exchange", "symbols": ["AAPL", "IBM", "^GSPC", "BRK.B", "EUR/USD"]}
    weather = {"type": "weather", "interval_s": 1}
    simulators = []
    for preset in USES:
        kind = exchange if preset in STOCKS else weather
        access = {} if preset == "nws" else {"token_env": "REST_KEY"}
        simulators += [
            {**kind, **access, "name": preset},
            {**kind, **access, "name": f"{preset}-limited", "requests_per_day": 1},
        ]
    for fault in FAULTS:
        faults = [{"kind": fault, "duration_s": 10_000}]
        simulators += [{**kind, "name": f"{fault}-{kind['type']}", "faults": faults} for kind in (exchange, weather)]
    return run_simulators(simulators, REST_KEY=KEY)


def test_every_preset_is_tried_here() -> None:
    assert set(USES) == set(preset_names())


@pytest.mark.parametrize("preset", sorted(USES))
def test_what_is_read_is_what_was_served(preset: str, site: Any, wait_for: Any) -> None:
    config = use_of(preset, site.urls[preset])
    asks = len(USES[preset]["symbols"]) if preset == "finnhub" else 1
    before = len(site.served(preset))
    readings = asyncio.run(polled(config))
    wait_for(lambda: len(site.served(preset)) == before + asks, "the ledger has it")
    served = {
        (name, entry["source_at"]): value
        for entry in site.served(preset)[before:]
        for name, value in entry["values"].items()
    }
    assert {r.quality for r in readings} == {Quality.GOOD}
    assert {(r.metric, r.sampled_at_ms): r.value for r in readings} == {
        key: pytest.approx(value, rel=1e-12) for key, value in served.items()
    }
    optional = {"wind_gusts", "rain_1h", "snow_1h"}
    assert {m.name for m in config.metrics()} - {r.metric for r in readings} <= optional


@pytest.mark.parametrize("preset", ["finnhub", "open-meteo"])
def test_of_many_polls_each_value_that_was_served_is_a_reading_once(preset: str, site: Any, wait_for: Any) -> None:
    config = use_of(preset, site.urls[preset], limits={}, hours="always")
    before = len(site.served(preset))

    async def polls() -> list[Reading]:
        async with config.open(lambda: time.time_ns() // 1_000_000) as source:
            found = []
            for _ in range(20):
                found += await source.poll()
                await asyncio.sleep(0.1)
            assert float(source.details()["not_modified"]) > 5
            return found

    readings = asyncio.run(polls())
    wait_for(lambda: len({e["source_at"] for e in site.served(preset)[before:]}) >= 2, "two sets of values")
    served = {(name, e["source_at"]) for e in site.served(preset)[before:] for name in e["values"]}
    assert sorted((r.metric, r.sampled_at_ms) for r in readings) == sorted(served)


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("finnhub", "HTTP 401"),
        ("alpha-vantage", "the key is missing or wrong"),
        ("stooq", "it asks for an apikey or does not know this one"),
        ("open-meteo", "HTTP 403"),
        ("openweathermap", "HTTP 401"),
    ],
)
def test_a_wrong_key_is_told_and_never_shown(
    preset: str, words: str, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REST_KEY", "wr0ng+secret/")
    with pytest.raises(SourceError) as caught:
        asyncio.run(polled(use_of(preset, site.urls[preset])))
    assert words in str(caught.value)
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("preset", sorted(USES))
def test_after_a_refusal_for_asking_too_often_nothing_is_asked(preset: str, site: Any) -> None:
    options = {"symbols": ["AAPL"]} if preset in STOCKS else {}
    config = use_of(preset, site.urls[f"{preset}-limited"], hours="always", **options)
    errors = []

    async def poll_on() -> dict[str, float | str]:
        async with config.open(lambda: time.time_ns() // 1_000_000) as source:
            assert await source.poll()
            for _ in range(4):
                with pytest.raises(SourceError) as caught:
                    await source.poll()
                errors.append(str(caught.value))
            return dict(source.details())

    details = asyncio.run(poll_on())
    assert details["requests"] == 2
    assert all("next request at" in error for error in errors[1:])
    assert "next request at" in str(details["waits"])
    # Alpha Vantage repeats the key in its message.
    assert KEY not in "".join(errors)


@pytest.mark.parametrize("preset", STOCKS)
def test_an_unknown_symbol_spoils_only_itself(preset: str, site: Any) -> None:
    readings = asyncio.run(polled(use_of(preset, site.urls[preset], symbols=["NONE", "IBM"], interval_s=9000)))
    good = {r.metric.split("/")[0] for r in readings if r.quality == Quality.GOOD}
    bad = {r.metric.split("/")[0] for r in readings if r.quality == Quality.BAD and r.value is None}
    assert (good, bad) == ({"IBM"}, {"NONE"})


@pytest.mark.parametrize("preset", ["open-meteo", "nws"])
def test_another_unit_is_never_taken_for_the_metrics(preset: str, site: Any) -> None:
    readings = asyncio.run(polled(use_of(preset, site.urls["unit_change-weather"])))
    bad = {r.metric for r in readings if r.quality == Quality.BAD and r.value is None}
    assert bad == ({"temperature_2m"} if preset == "open-meteo" else {"temperature", "dew_point"})
    assert len(readings) > len(bad)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "unit_change"])
@pytest.mark.parametrize("preset", sorted(USES))
def test_a_fault_gives_no_value_and_ends_in_time(preset: str, fault: str, site: Any) -> None:
    url = site.urls[f"{fault}-{'exchange' if preset in STOCKS else 'weather'}"]
    config = use_of(preset, url, timeout_s=0.5)
    began_s = time.monotonic()
    with pytest.raises(SourceError, match=url):
        asyncio.run(polled(config))
    assert time.monotonic() - began_s < 2
