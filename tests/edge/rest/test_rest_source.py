"""What the REST source makes of answers that a test scripts: what is new, what is bad, who is asked and how often."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import parse_config
from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources import RestConfig
from edge.sources.rest.http import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.reading import Reading
    from edge.sources.rest import RestSource

T0 = 1_700_000_000
NOW_MS = 1_800_000_000_123
REQUEST: dict[str, Any] = {
    "path": "/v1/{symbol}",
    "time": {"value": "t", "format": "unix_s"},
    "prefix": "{symbol}/",
    "metrics": [{"name": "level", "value": "v", "unit": "m"}],
}


def config_of(api: Any, request: dict[str, Any] | None = None, **more: Any) -> RestConfig:
    described = {"title": "Gauges", "base_url": api.url, "requests": [REQUEST | (request or {})]}
    described |= {key: more.pop(key) for key in ("auth", "limits", "headers") if key in more}
    document = {"type": "rest", "name": "gauges", "interval_s": 1, "symbols": ["a", "b"], "api": described}
    return parse_config(document | more, RestConfig, "edge.yaml")


def run(config: RestConfig, work: Callable[[RestSource], Any], now_ms: Callable[[], int] = lambda: NOW_MS) -> Any:
    async def opened() -> Any:
        async with config.open(now_ms) as source:
            return await work(source)

    return asyncio.run(opened())


async def poll(source: RestSource) -> list[Reading]:
    return await source.poll()


def values(readings: list[Reading]) -> dict[str, Any]:
    return {r.metric: r.value if r.quality == Quality.GOOD else None for r in readings}


def row(v: Any = 1.5, t: Any = T0) -> dict[str, Any]:
    return {"v": v, "t": t}


def test_a_row_is_a_reading_of_its_own_time(scripted_api: Any) -> None:
    scripted_api.script = lambda asked: row(2 if asked.path == "/v1/a" else 3)
    config = config_of(scripted_api, headers={"X-Who": "us"})
    readings = run(config, poll)
    assert [(r.metric, r.datatype, r.value, r.sampled_at_ms, r.quality) for r in readings] == [
        ("a/level", DataType.DOUBLE, 2.0, T0 * 1000, Quality.GOOD),
        ("b/level", DataType.DOUBLE, 3.0, T0 * 1000, Quality.GOOD),
    ]
    assert [(m.name, m.unit) for m in config.metrics()] == [("a/level", "m"), ("b/level", "m")]
    assert {asked.headers["x-who"] for asked in scripted_api.asked} == {"us"}
    assert scripted_api.asked[0].headers["user-agent"].startswith("headwater-edge/")


def test_values_are_new_by_their_time_whatever_a_cache_serves(scripted_api: Any) -> None:
    times = iter([T0, T0, T0 + 2, T0 + 1, T0, T0 + 2, T0 + 3])
    scripted_api.script = lambda _: row(t=next(times))

    async def polls(source: RestSource) -> list[list[int]]:
        return [[r.sampled_at_ms // 1000 - T0 for r in await source.poll()] for _ in range(7)]

    assert run(config_of(scripted_api, symbols=["a"]), polls) == [[0], [], [2], [1], [], [], [3]]


def test_without_a_time_a_reading_has_the_moment_of_its_answer(scripted_api: Any) -> None:
    found = iter([1, 1, 2])
    scripted_api.script = lambda _: {"v": next(found)}
    clock = iter(range(NOW_MS, NOW_MS + 1000))

    async def polls(source: RestSource) -> list[list[Any]]:
        return [[r.value for r in await source.poll()] for _ in range(3)]

    for only_changes, expected in ((False, [[1], [1], [2]]), (True, [[1], [], [2]])):
        found = iter([1, 1, 2])
        config = config_of(scripted_api, {"time": None, "only_changes": only_changes}, symbols=["a"])
        assert run(config, polls, lambda: next(clock)) == expected


def test_source_time_and_receive_time_are_both_kept(scripted_api: Any) -> None:
    scripted_api.script = lambda _: row(t=T0)
    received_ms = T0 * 1000 + 2500
    config = config_of(scripted_api, symbols=["a"], lag=True)
    readings = run(config, poll, lambda: received_ms)
    assert values(readings) == {"a/level": 1.5, "a/lag": 2.5}
    assert {r.sampled_at_ms for r in readings} == {T0 * 1000}
    assert [(m.name, m.unit) for m in config.metrics()] == [("a/level", "m"), ("a/lag", "s")]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"t": T0}, None),
        (row(None), None),
        (row("1.5"), None),
        (row(v=True), None),
        (row(10**400), None),
        (row([1]), None),
        (row(t=0), "not from 2000"),
        (row(t="now"), "allowed is a number"),
        (b"<html>maintenance</html>", "not JSON"),
        (b'{"v": NaN, "t": 1700000000}', "NaN is not JSON"),
        (b'{"v": 1e999, "t": 1700000000}', None),
        (b'{"v": 1, "v": 2, "t": 1700000000}', "stands twice"),
        (b"[" * 100_000, "not JSON"),
        (b'{"v":' + b'{"a":' * 40_000 + b"1" + b"}" * 40_001, "not JSON"),
        (b'{"v": ' + b"9" * 100_000 + b', "t": 1700000000}', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
        (b"7", "allowed is an object or a list"),
        ([], None),
        (b" " * 300_000, "over 262144 bytes"),
    ],
)
def test_an_answer_that_is_none_spoils_only_its_symbol(
    scripted_api: Any, answer: Any, complaint: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    scripted_api.script = lambda asked: answer if asked.path == "/v1/b" else row()

    async def polls(source: RestSource) -> list[list[Reading]]:
        return [await source.poll(), await source.poll()]

    first, _ = run(config_of(scripted_api), polls)
    assert values(first) == {"a/level": 1.5, **({} if answer == [] else {"b/level": None})}
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    # Once, however often it is polled.
    assert len(warnings) == (0 if answer == [] else 1)
    if complaint:
        assert f"{scripted_api.url}/v1/b: " in warnings[0]
        assert complaint in warnings[0]


def test_a_symbol_that_comes_back_is_told_and_its_values_said_again(
    scripted_api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {"/v1/a": row(), "/v1/b": row()}
    scripted_api.script = lambda asked: answers[asked.path]

    async def polls(source: RestSource) -> None:
        await source.poll()
        answers["/v1/b"] = row(t="?")
        assert values(await source.poll()) == {"b/level": None}
        answers["/v1/b"] = row()
        assert values(await source.poll()) == {"b/level": 1.5}

    with caplog.at_level("INFO"):
        run(config_of(scripted_api), polls)
    assert [r.getMessage() for r in caplog.records if r.levelname == "INFO"] == ["gauges: b is answered again"]


def test_a_poll_that_is_cancelled_has_not_seen_its_values(scripted_api: Any) -> None:
    hangs = [True]

    def script(asked: Any) -> Any:
        if asked.path == "/v1/b" and hangs[0]:
            scripted_api.over.wait(20)
        return row()

    scripted_api.script = script

    async def polls(source: RestSource) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.poll(), 0.3)
        hangs[0] = False
        assert set(values(await source.poll())) == {"a/level", "b/level"}

    run(config_of(scripted_api, timeout_s=20), polls)


def test_a_server_that_hangs_at_one_symbol_does_not_cost_the_others(scripted_api: Any) -> None:
    scripted_api.script = lambda asked: scripted_api.over.wait(20) if asked.path == "/v1/b" else row()
    began_s = time.monotonic()
    assert values(run(config_of(scripted_api, timeout_s=0.4), poll)) == {"a/level": 1.5, "b/level": None}
    assert time.monotonic() - began_s < 1


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_server_that_refuses_is_not_asked_for_the_rest(scripted_api: Any, status: int, said: Any) -> None:
    scripted_api.script = lambda asked: said({}, status) if asked.path == "/v1/b" else row()
    assert values(run(config_of(scripted_api, symbols=["a", "b", "c"]), poll)) == {
        "a/level": 1.5,
        "b/level": None,
        "c/level": None,
    }
    assert [asked.path for asked in scripted_api.asked] == ["/v1/a", "/v1/b"]


def test_an_error_says_url_status_and_reason(scripted_api: Any, said: Any) -> None:
    scripted_api.script = lambda _: said({"title": "Gone", "detail": "Station unknown"}, 404)
    with pytest.raises(SourceError, match=f"{scripted_api.url}/v1/a: HTTP 404 Not Found: 'Station unknown'"):
        run(config_of(scripted_api), poll)


@pytest.mark.parametrize("place", [{"query": "key"}, {"header": "X-Key", "prefix": "Bearer "}])
def test_the_secret_is_sent_and_never_shown(
    scripted_api: Any,
    place: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: Any,
) -> None:
    monkeypatch.setenv("GAUGES_KEY", "s3cret/+ key")
    scripted_api.script = lambda asked: said(
        f"no: {asked.query.get('key') or asked.headers.get('x-key')} or s3cret%2F%2B%20key".encode(), 500
    )
    config = config_of(scripted_api, auth=place, secret_env="GAUGES_KEY", symbols=["a"])
    with caplog.at_level("DEBUG"), pytest.raises(SourceError) as caught:
        run(config, poll)
    (asked,) = scripted_api.asked
    assert asked.query.get("key") == "s3cret/+ key" or asked.headers.get("x-key") == "Bearer s3cret/+ key"
    shown = str(caught.value) + caplog.text + repr(caught.value.__cause__) + repr(config)
    assert "s3cret" not in shown
    assert "***" in shown


def test_a_secret_that_is_not_there_asks_nobody(scripted_api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAUGES_KEY", raising=False)
    with pytest.raises(SourceError, match="gauges: secret_env: environment variable GAUGES_KEY"):
        run(config_of(scripted_api, auth={"query": "key"}, secret_env="GAUGES_KEY"), poll)
    monkeypatch.setenv("GAUGES_KEY", "with\nlines")
    with pytest.raises(SourceError, match="characters that HTTP cannot carry"):
        run(config_of(scripted_api, auth={"query": "key"}, secret_env="GAUGES_KEY"), poll)
    assert scripted_api.asked == []


def test_a_symbol_cannot_leave_its_place_in_the_path(scripted_api: Any, said: Any) -> None:
    scripted_api.script = lambda _: said({}, 404)
    with pytest.raises(SourceError):
        run(config_of(scripted_api, symbols=["../admin?x=1#y"]), poll)
    assert scripted_api.asked[0].path == "/v1/%2E%2E%2Fadmin%3Fx%3D1%23y"


def test_what_has_not_changed_is_not_sent_again(scripted_api: Any, said: Any) -> None:
    def script(asked: Any) -> Any:
        if asked.headers.get("if-none-match") == '"1"' and asked.headers.get("if-modified-since"):
            return said(b"", 304)
        return said(row(), 200, {"ETag": '"1"', "Last-Modified": "Wed, 15 Nov 2023 00:00:00 GMT"})

    scripted_api.script = script

    async def polls(source: RestSource) -> dict[str, Any]:
        assert len(await source.poll()) == 2
        assert await source.poll() == []
        return dict(source.details())

    details = run(config_of(scripted_api), polls)
    assert (details["not_modified"], details["last_status"], details["requests"]) == (2.0, "304", 4.0)


def test_a_redirect_on_the_same_server_is_followed_and_to_another_refused(scripted_api: Any, said: Any) -> None:
    targets = {"/v1/a": "/new", "/v1/b": "http://localhost:1/elsewhere"}
    scripted_api.script = lambda asked: (
        said(b"", 302, {"Location": targets[asked.path]}) if asked.path in targets else row()
    )
    assert values(run(config_of(scripted_api), poll)) == {"a/level": 1.5, "b/level": None}
    targets["/new"] = "/new"
    with pytest.raises(SourceError, match="over 3 redirects"):
        run(config_of(scripted_api, symbols=["a"]), poll)


def test_pages_by_link_and_by_number_are_bounded(scripted_api: Any) -> None:
    def script(asked: Any) -> Any:
        number = int(asked.query.get("page", 1))
        return {"rows": [row(number, T0 + number)], "next": f"/v1/a?page={number + 1}"}

    scripted_api.script = script
    by_link = {"rows": "rows", "paging": {"next": "next", "max_pages": 3}}
    by_number = {"rows": "rows", "paging": {"parameter": "page", "max_pages": 3}}
    for request in (by_link, by_number):
        readings = run(config_of(scripted_api, request, symbols=["a"]), poll)
        assert [(r.value, r.sampled_at_ms) for r in readings] == [(n, (T0 + n) * 1000) for n in (1, 2, 3)]
    assert len(scripted_api.asked) == 6


@pytest.mark.parametrize("link", ["http://localhost:1/x", "//evil.example/x", "http://[", 7])
def test_the_next_page_is_on_the_same_server(scripted_api: Any, link: Any) -> None:
    scripted_api.script = lambda _: {"rows": [row()], "next": link}
    with pytest.raises(SourceError, match="a URL on the same server"):
        run(config_of(scripted_api, {"rows": "rows", "paging": {"next": "next"}}, symbols=["a"]), poll)


def test_a_page_that_names_itself_is_asked_once(scripted_api: Any) -> None:
    scripted_api.script = lambda _: {"rows": [row()], "next": "/v1/a"}
    assert len(run(config_of(scripted_api, {"rows": "rows", "paging": {"next": "next"}}, symbols=["a"]), poll)) == 1
    assert len(scripted_api.asked) == 1


def test_csv_rows_belong_to_their_symbols(scripted_api: Any) -> None:
    scripted_api.script = lambda _: b"Sym,When,Level\r\nB,2026-11-20 10:00:00,2.5\r\nA,2026-11-20 10:00:01,N/D\r\n"
    request = {
        "path": "/all",
        "query": {"s": "{symbols}"},
        "format": "csv",
        "batch": 10,
        "symbol": "Sym",
        "time": {"value": "When", "format": "iso8601", "zone": "UTC"},
        "metrics": [{"name": "level", "value": "to_number(Level)"}],
    }
    readings = run(config_of(scripted_api, request, symbols=["a", "b", "c"]), poll)
    assert values(readings) == {"a/level": None, "b/level": 2.5, "c/level": None}
    assert scripted_api.asked[0].query == {"s": "a,b,c"}


@pytest.mark.parametrize(
    ("metric", "found", "value"),
    [
        ({"datatype": "int32"}, 7, 7),
        ({"datatype": "int8"}, 200, None),
        ({"datatype": "uint16"}, 1.5, None),
        ({"datatype": "int64"}, 9.0, 9),
        ({"datatype": "float"}, 1e39, None),
        ({"datatype": "boolean"}, True, True),
        ({"datatype": "boolean"}, 1, None),
        ({"datatype": "string"}, "ok", "ok"),
        ({"datatype": "string"}, "x" * 2000, None),
        ({"scale": 0.01}, 101_325, 1013.25),
        ({"unit_at": "u"}, 1, 1.0),
        ({"unit_at": "u", "unit_says": "metre"}, 1, None),
        ({"quality_at": "q", "good": ["V"]}, 1, 1.0),
        ({"quality_at": "q", "good": ["S"]}, 1, None),
        ({"value": "length(v)"}, 7, None),
        ({"value": "sum(v)"}, [1, "a"], None),
        ({"value": "max_by(v, &x)"}, [{"x": 1}, {"x": "a"}], None),
    ],
)
def test_values_by_type_unit_and_flag(scripted_api: Any, metric: dict[str, Any], found: Any, value: Any) -> None:
    scripted_api.script = lambda _: {"v": found, "t": T0, "u": "m", "q": "V"}
    described = {"name": "level", "value": "v", "unit": "m"} | metric
    (reading,) = run(config_of(scripted_api, {"metrics": [described]}, symbols=["a"]), poll)
    assert reading.value == (pytest.approx(value) if isinstance(value, float) else value)
    assert reading.quality == (Quality.BAD if value is None else Quality.GOOD)


def test_what_is_optional_is_no_reading(scripted_api: Any) -> None:
    scripted_api.script = lambda _: {"t": T0}
    described = {"name": "gust", "value": "v", "optional": True}
    assert run(config_of(scripted_api, {"metrics": [described]}, symbols=["a"]), poll) == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 5 "}, 5.0),
        ({"retry-after": "9" * 400}, 999_999_999_999_999_999.0),
        ({"retry-after": "Fri, 20 Nov 2026 10:01:00 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 60.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 29.877),
        ({"retry-after": "Fri, 20 Nov 2020 10:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "\N{ARABIC-INDIC DIGIT FIVE}"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    found = retry_after_s(headers, NOW_MS)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=0.01))


def test_retry_after_is_kept_to_over_a_reopening(scripted_api: Any, said: Any) -> None:
    scripted_api.script = lambda _: said({}, 503, {"Retry-After": "1"})
    config = config_of(scripted_api, symbols=["a"])
    for _ in range(3):
        with pytest.raises(SourceError, match="503"):
            run(config, poll)
    assert len(scripted_api.asked) == 1
    scripted_api.script = lambda _: row()
    deadline = time.monotonic() + 10
    while True:
        try:
            readings = run(config, poll)
            break
        except SourceError:
            assert time.monotonic() < deadline
    assert values(readings) == {"a/level": 1.5}
    assert scripted_api.asked[1].at_s - scripted_api.asked[0].at_s >= 1


def test_requests_are_never_closer_than_the_limit(scripted_api: Any) -> None:
    scripted_api.script = lambda _: row()
    config = config_of(scripted_api, limits={"per_second": 2}, symbols=["a", "b", "c", "d"], interval_s=2, timeout_s=4)
    assert len(run(config, poll)) == 4
    at = [asked.at_s for asked in scripted_api.asked]
    assert all(later - earlier >= 1 for earlier, later in zip(at, at[2:], strict=False))


def test_what_a_poll_cannot_ask_in_time_is_asked_by_the_next(scripted_api: Any) -> None:
    scripted_api.script = lambda _: row()
    config = config_of(
        scripted_api, limits={"per_minute": 3}, symbols=list("abcd"), requests_per_poll=2, interval_s=40, timeout_s=0.5
    )

    async def polls(source: RestSource) -> list[set[str]]:
        return [set(values(await source.poll())) for _ in range(3)]

    assert run(config, polls) == [{"a/level", "b/level"}, {"c/level"}, set()]
    assert [asked.path for asked in scripted_api.asked] == ["/v1/a", "/v1/b", "/v1/c"]


def test_requests_go_round_the_symbols(scripted_api: Any) -> None:
    scripted_api.script = lambda _: row()

    async def polls(source: RestSource) -> list[set[str]]:
        return [{metric[0] for metric in values(await source.poll())} for _ in range(3)]

    assert run(config_of(scripted_api, symbols=["a", "b", "c"], requests_per_poll=2), polls) == [
        {"a", "b"},
        {"c"},  # and a, whose values are known
        set(),
    ]


def test_a_days_quota_ends_and_is_renewed_and_a_restart_does_not_renew_it(scripted_api: Any, tmp_path: Path) -> None:
    scripted_api.script = lambda _: row(t=T0 + len(scripted_api.asked))
    quota: dict[str, Any] = {"limits": {"per_day": 2}, "quota_file": str(tmp_path / "quota.json"), "interval_s": 50_000}
    clock = [NOW_MS]
    config = config_of(scripted_api, symbols=["a"], **quota)

    async def polls(source: RestSource) -> dict[str, Any]:
        assert await source.poll()
        assert source.details()["quota_left_day"] == 1
        assert await source.poll()
        with pytest.raises(SourceError, match=r"the day's 2 requests are used up; next request at 2027-01-16 00:00:00"):
            await source.poll()
        return dict(source.details())

    assert run(config, polls, lambda: clock[0])["quota_left_day"] == 0
    restarted = config_of(scripted_api, symbols=["a"], **quota)
    with pytest.raises(SourceError, match="used up"):
        run(restarted, poll, lambda: clock[0])
    assert len(scripted_api.asked) == 2
    clock[0] += 86_400_000
    assert run(restarted, poll, lambda: clock[0])


def test_while_the_market_is_closed_it_is_asked_once_or_rarely(scripted_api: Any) -> None:
    scripted_api.script = lambda _: row(t=T0 + len(scripted_api.asked))
    # A Saturday.
    clock = [1_795_305_600_000]

    async def polls(source: RestSource) -> list[int]:
        found = []
        for _ in range(4):
            found.append(len(await source.poll()))
            clock[0] += 1_000_000
        assert source.details()["market"] == "closed until Mon 2026-11-23 09:30 EST"
        clock[0] = 1_795_444_200_000  # Monday, 09:30
        found.append(len(await source.poll()))
        assert source.details()["market"] == "open"
        return found

    closed = config_of(scripted_api, symbols=["a"], hours="nyse")
    assert run(closed, polls, lambda: clock[0]) == [1, 0, 0, 0, 1]
    clock[0] = 1_795_305_600_000
    rarely = config_of(scripted_api, symbols=["a"], hours="nyse", closed_interval_s=1500)
    assert run(rarely, polls, lambda: clock[0]) == [1, 0, 1, 0, 1]
