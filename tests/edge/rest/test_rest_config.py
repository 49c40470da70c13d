"""What a REST source's config promises before anything is asked, and docs/sources/rest.md held against the presets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contract.config import ConfigError, parse_config
from edge.sources import RestConfig
from edge.sources.rest.api import (
    DATATYPES,
    Api,
    Auth,
    Limits,
    Metric,
    Paging,
    Refusal,
    Request,
    load_preset,
    preset_names,
)
from edge.sources.rest.budget import Budget, Window
from edge.sources.rest.hours import Calendar, Session
from edge.sources.rest.plan import Load, check
from edge.sources.rest.templates import fill, names_in
from edge.sources.rest.times import TimeSpec

PAGE = (Path(__file__).parents[3] / "docs" / "sources" / "rest.md").read_text(encoding="utf-8")
FINNHUB = {"preset": "finnhub", "secret_env": "KEY", "symbols": ["AAPL", "IBM", "MSFT"]}
SESSION = {"opens": "09:00", "closes": "17:00"}
PLACE = {"preset": "open-meteo", "latitude": 52.52, "longitude": 13.41}
API: dict[str, Any] = {
    "title": "Gauges",
    "base_url": "https://gauges.example",
    "requests": [{"path": "/v1", "metrics": [{"name": "level", "value": "v"}]}],
}


def nested(opened: str, closed: str) -> dict[str, Any]:
    """An API with an expression that is deeper than Python goes."""
    metric = {"name": "level", "value": f"{opened * 2000}v{closed * 2000}"}
    return {"api": API | {"requests": [{"path": "/v1", "metrics": [metric]}]}}


def config_of(**keys: Any) -> RestConfig:
    return parse_config({"type": "rest", "name": "x", "interval_s": 60} | keys, RestConfig, "edge.yaml")


ALPHA = {"preset": "alpha-vantage", "symbols": ["A"], "secret_env": "KEY"}
OWM = PLACE | {"preset": "openweathermap", "secret_env": "KEY"}
EIGHT = ALPHA | {"symbols": list("ABCDEFGH"), "interval_s": 86_400}
STOOQ = {"preset": "stooq", "symbols": ["A.US"]}


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (FINNHUB | {"interval_s": 1}, "3 requests each 1 s: 180 a minute, and the provider's limit is 60 a minute"),
        (FINNHUB | {"interval_s": 1}, "interval_s of 3 or more, fewer symbols, requests_per_poll"),
        (PLACE | {"interval_s": 5}, "17,280 a day, and the provider's limit is 10,000 a day"),
        (PLACE | {"interval_s": 5}, "interval_s of 8.64 or more"),
        (ALPHA, "1,440 a day, and the provider's limit is 25 a day; allowed: interval_s of 3456 or more"),
        (EIGHT, "allowed: requests_per_poll up to 1, or timeout_s of 10 or more"),
        (EIGHT, "8 requests in one poll, 1 a second allowed: the last one waits 7.7 s, and timeout_s is 5"),
        (OWM | {"interval_s": 2}, "1,339,200 a month, and the provider's limit is 1,000,000 a month"),
        (STOOQ | {"interval_s": 120, "closed_interval_s": 600}, "a longer closed_interval_s"),
    ],
)
def test_what_cannot_fit_a_limit_is_refused_with_the_arithmetic(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config_of(**keys)


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (
            FINNHUB | {"interval_s": 15},
            [
                "Finnhub, quotes of stocks: https://finnhub.io",
                "requests: 3 each 15 s, 12 of 60 a minute, 4,920 a day",
                "hours: mon/tue/wed/thu/fri 09:30 to 16:00 America/New_York, else not polled",
            ],
        ),
        (
            FINNHUB | {"interval_s": 2, "requests_per_poll": 1, "hours": "always", "closed_interval_s": 60},
            ["requests: 1 each 2 s, 30 of 60 a minute, 43,200 a day", "in turn: 1 of 3 a poll, each 6 s"],
        ),
        (
            PLACE | {"secret_env": "KEY", "base_url": "http://customer-api.open-meteo.com"},
            ["secret: base_url is http, so it is sent where anybody on the way can read it"],
        ),
        (PLACE | {"limits": {}, "base_url": "http://127.0.0.1:1"}, ["requests: 1 each 60 s, 1,440 a day"]),
        (PLACE, ["requests: 1 each 60 s, 1 of 600 a minute, 60 of 5,000 an hour, 1,440 a day of 10,000 (UTC)"]),
    ],
)
def test_check_explains_requests_against_limits_and_hours(keys: dict[str, Any], lines: list[str]) -> None:
    explained = config_of(**keys).explain()
    assert [line for line in lines if line not in explained] == []


@given(
    requests=st.integers(1, 50),
    interval_s=st.floats(0.1, 86_400),
    limit=st.integers(1, 500),
    per=st.sampled_from(["per_second", "per_minute", "per_hour", "per_day", "per_month"]),
)
def test_what_is_let_through_fits_and_the_interval_that_is_named_does(
    requests: int, interval_s: float, limit: int, per: str
) -> None:
    limits = Limits.model_validate({per: limit})
    try:
        check(Load(requests, interval_s, timeout_s=600), limits)
    except ValueError as exc:
        named = re.search(r"interval_s of ([\d.e+]+) or more", str(exc))
        if named is not None:
            check(Load(requests, float(named[1]), timeout_s=100_000), limits)
    else:
        seconds = {"per_second": 1, "per_minute": 60, "per_hour": 3600, "per_day": 86_400, "per_month": 31 * 86_400}[
            per
        ]
        assert requests * seconds / interval_s <= limit * (1 + 1e-9)


@given(st.lists(st.floats(0, 5), max_size=80), st.integers(1, 6))
def test_no_window_of_the_clock_ever_has_more_than_the_limit(pauses_s: list[float], limit: int) -> None:
    window, now_s, made = Window(limit, 10), 1000.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        now_s += window.wait_s(now_s)
        window.spend(now_s)
        made.append(now_s)
    assert all(later - earlier > 10 for earlier, later in zip(made, made[limit:], strict=False))


def test_own_pauses_double_and_a_providers_is_capped() -> None:
    pauses = []
    budget = Budget(Limits())
    for _ in range(12):
        budget.pause(0.0, None, luck=0.0, reason="too fast")
        pauses.append(next(s for s in range(10_000) if budget.refusal(float(s), 0) is None))
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900]
    budget.pause(0.0, 1e9, luck=0.0, reason="come tomorrow")
    assert budget.refusal(3599.0, 0) == "come tomorrow; next request at 1970-01-01 00:00:01 UTC"
    assert budget.refusal(3600.0, 0) is None
    budget.answered()
    budget.pause(4000.0, None, luck=1.0, reason="too fast")
    assert budget.refusal(4002.4, 0) is not None
    assert budget.refusal(4002.6, 0) is None


@pytest.mark.parametrize("found", ["", "no JSON", '{"day": 3}', '{"day": ["2027-01-15", -4]}', "[" * 5000, None])
def test_a_quota_file_that_is_spoilt_counts_from_nothing(
    tmp_path: Path, found: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "quota.json"
    if found is None:
        path.mkdir()
    else:
        path.write_text(found)
    budget = Budget(Limits(per_day=5), path)
    is_readable = found is not None and found.startswith("{")
    assert ("requests are counted from none" in caplog.text) is not is_readable
    budget.spend(0.0, 1_800_000_000_000)
    assert budget.details(1_800_000_000_000) == {"quota_left_day": 4.0}


def test_a_clock_that_is_set_back_renews_no_quota() -> None:
    now_ms, day_ms = 1_800_000_000_000, 86_400_000
    budget = Budget(Limits(per_day=5, per_month=9))
    for at_ms in (now_ms, now_ms, now_ms - 40 * day_ms):
        budget.spend(0.0, at_ms)
    assert budget.details(now_ms - 40 * day_ms) == {"quota_left_day": 2.0, "quota_left_month": 6.0}
    assert budget.details(now_ms - 39 * day_ms)["quota_left_day"] == 5.0


def test_a_large_quota_is_written_down_a_hundred_times_at_most_and_never_too_low(tmp_path: Path) -> None:
    path, now_ms = tmp_path / "quota.json", 1_800_000_000_000
    budget, written = Budget(Limits(per_day=1000), path), set()
    for used in range(1, 1001):
        budget.spend(0.0, now_ms)
        written.add(path.read_text())
        if used % 100 == 0:
            left = Budget(Limits(per_day=1000), path).details(now_ms)["quota_left_day"]
            assert 1000 - used - 10 <= float(left) <= 1000 - used
    assert len(written) <= 100


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "one of preset, preset_file and api"),
        ({"preset": "finnhub", "api": API}, "one of preset, preset_file and api"),
        ({"preset": "yahoo"}, "no preset 'yahoo'; there are alpha-vantage, finnhub, nws"),
        ({"preset": "../finnhub"}, "no preset"),
        ({"preset_file": "/nowhere/x.yaml"}, "cannot be read"),
        ({"preset": "finnhub", "symbols": ["A"]}, "missing: secret_env or secret_file, as Finnhub.* needs a key"),
        (FINNHUB | {"secret_file": "/x"}, "exclude each other"),
        ({"preset": "nws", "secret_env": "K", "variables": {"station": "K", "contact": "c"}}, "takes no secret"),
        ({"preset": "finnhub", "secret_env": "K"}, "missing: symbols"),
        (PLACE | {"symbols": ["A"]}, "takes no symbols"),
        (FINNHUB | {"symbols": ["AAPL", "aapl"]}, "stands here twice"),
        (FINNHUB | {"symbols": ["A B"]}, "symbols.0"),
        ({"preset": "open-meteo", "latitude": 3}, "missing: longitude"),
        (PLACE | {"latitude": 91}, "latitude"),
        (FINNHUB | {"latitude": 3}, "latitude: Finnhub.* has no use for it"),
        ({"preset": "nws", "variables": {"station": "KSEA"}}, "missing: variables.contact$"),
        ({"preset": "nws", "variables": {"station": "K", "contact": "a\nX-Evil: b"}}, "variables.contact"),
        (PLACE | {"only": ["warmth"]}, "no metric warmth; there are apparent_temperature"),
        (PLACE | {"hours": "lunch"}, "hours.name: found 'lunch', allowed: 'always' or 'nyse'"),
        (PLACE | {"hours": {"zone": "Europe/Londn", "sessions": [SESSION]}}, "hours.calendar.zone: .* is no time zone"),
        (PLACE | {"hours": {"zone": "UTC", "sessions": []}}, "hours.calendar.sessions"),
        (PLACE | {"hours": 5}, "hours.calendar"),
        (PLACE | {"base_url": "api.example"}, "base_url"),
        (PLACE | {"base_url": "https://user:word@api.example"}, "base_url"),
        (PLACE | {"base_url": "http://[::1"}, "base_url: .* is no URL"),
        (PLACE | {"base_url": "http://api.example:99999"}, "base_url: .* is no URL"),
        (PLACE | {"base_url": "http://:80"}, "base_url: .* is no base URL; allowed is such as https://api.example.com"),
        ({"api": API | {"requests": [API["requests"][0], API["requests"][0]]}}, "would stand twice: level"),
        ({"secret": "s3cret", **FINNHUB}, "not a known key"),
        (nested("(", ")"), "is no JMESPath"),
        (nested("!", ""), "is no JMESPath"),
        (nested("[", "]"), "is no JMESPath"),
    ],
)
def test_wrong_configs_are_told(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        config_of(**keys)
    assert len(str(caught.value).splitlines()) == 1


def test_an_api_of_ones_own_is_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "gauges.yaml"
    path.write_text(yaml.safe_dump(API))
    assert [m.name for m in config_of(preset_file=str(path)).metrics()] == ["level"]
    path.write_text(yaml.safe_dump(API | {"requests": [{"path": "/v1", "metrics": [{"name": "x", "value": "a["}]}]}))
    with pytest.raises(ConfigError, match=r"gauges.yaml: requests.0.metrics.0.value: .* is no JMESPath"):
        config_of(preset_file=str(path))


def test_configs_compare_by_what_is_written() -> None:
    one, same, other = config_of(**PLACE), config_of(**PLACE), config_of(**PLACE, lag=True)
    assert one == same
    assert one != other


def test_templates_replace_names_in_braces_and_nothing_else() -> None:
    assert names_in(["/{a}/{b_c}", "{0}{a.b}{{x}}"]) == {"a", "b_c", "x"}
    assert fill("{a} {a.__class__} {0} %s", {"a": "{a}"}) == "{a} {a.__class__} {0} %s"


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_names_its_sources_and_describes_its_metrics(name: str) -> None:
    api = load_preset(name)
    assert api.documentation
    assert api.limits.source
    assert api.base_url.startswith("https://")
    assert all(metric.description for request in api.requests for metric in request.metrics)
    assert all(metric.unit for request in api.requests for metric in request.metrics) or api.needs_symbols


@pytest.mark.parametrize("name", preset_names())
def test_the_tables_of_the_page_are_the_presets(name: str) -> None:
    api = load_preset(name)
    needs, metrics = (
        [cell.strip() for cell in row.split("|")] for row in re.findall(rf"^\| `{name}` \|(.*)\|$", PAGE, re.MULTILINE)
    )
    assert needs == [_needs(api), _limits(api.limits), str(api.hours)]
    listed = [
        [f"{m.name} ({m.unit})" if m.unit else m.name for r in api.requests for m in r.metrics if m.extra is extra]
        for extra in (False, True)
    ]
    assert metrics == [", ".join(names) for names in listed]
    assert f"- `{name}`: " in PAGE


def _needs(api: Api) -> str:
    places = ["latitude", "longitude"] if "latitude" in api.variables else []
    own = sorted(api.variables - set(places))
    needs = ["secret"] if api.auth is not None and api.auth.required else []
    needs += ["symbols"] if api.needs_symbols else []
    needs += [*places, *([f"variables {', '.join(own)}"] if own else [])]
    return ", ".join(needs) + (" (secret)" if api.auth is not None and not api.auth.required else "")


def _limits(limits: Limits) -> str:
    names = {"per_second": "a second", "per_minute": "a minute", "per_hour": "an hour", "per_day": "a day"}
    found = [f"{getattr(limits, key):,} {name}" for key, name in names.items() if getattr(limits, key) is not None]
    if limits.per_month is not None:
        found.append(f"{limits.per_month:,} a month")
    has_quota = limits.per_day is not None or limits.per_month is not None
    return ", ".join(found) + (f" ({limits.day_zone})" if has_quota else "")


@pytest.mark.parametrize("model", [Api, Auth, Limits, Metric, Paging, Refusal, Request, TimeSpec, Calendar, Session])
def test_every_key_of_an_api_is_described_and_on_the_page(model: Any) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        assert re.search(rf"`{name}`", PAGE), name
    for refusal in get_args(Refusal.model_fields["means"].annotation):
        assert refusal in PAGE
    assert set(DATATYPES) > {"double", "int16", "boolean", "string"}


def test_the_pages_calendar_is_right() -> None:
    (hours,) = re.findall(r"^```yaml hours\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    config_of(**PLACE, **yaml.safe_load(hours))
