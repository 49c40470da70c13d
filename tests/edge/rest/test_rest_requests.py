"""What the REST source sends, follows and refuses: secrets, paths, validators, redirects, pages."""

from __future__ import annotations

import re
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from contract.config import parse_config
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources import RestConfig

if TYPE_CHECKING:
    from edge.reading import Reading
    from edge.sources.rest import RestSource

T0 = 1_700_000_000
NOW_MS = 1_800_000_000_123


def row(v: Any = 1.5, t: Any = T0) -> dict[str, Any]:
    return {"v": v, "t": t}


def test_an_error_says_url_status_and_reason(gauges: Any, scripted_api: Any, said: Any) -> None:
    scripted_api.script = lambda _: said({"title": "Gone", "detail": "Station unknown"}, 404)
    with pytest.raises(SourceError, match=f"{scripted_api.url}/v1/a: HTTP 404 Not Found: 'Station unknown'"):
        gauges.run(gauges.config(), gauges.poll)


@pytest.mark.parametrize("place", [{"query": "key"}, {"header": "X-Key", "prefix": "Bearer "}])
def test_the_secret_is_sent_and_never_shown(
    gauges: Any,
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
    config = gauges.config(auth=place, secret_env="GAUGES_KEY", symbols=["a"])
    with caplog.at_level("DEBUG"), pytest.raises(SourceError) as caught:
        gauges.run(config, gauges.poll)
    (asked,) = scripted_api.asked
    assert asked.query.get("key") == "s3cret/+ key" or asked.headers.get("x-key") == "Bearer s3cret/+ key"
    shown = str(caught.value) + caplog.text + repr(caught.value.__cause__) + repr(config)
    assert "s3cret" not in shown
    assert "***" in shown


@pytest.mark.parametrize("cut", range(60, 85, 3))
def test_a_secret_that_is_cut_off_or_escaped_is_not_shown_in_part(
    gauges: Any, scripted_api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    secret = 's3cret"/\\+key'
    monkeypatch.setenv("GAUGES_KEY", secret)
    begun = " " * cut + secret
    answers = {"/v1/a": begun.encode(), "/v1/b": {"v": begun, "t": T0}, "/v1/c": {"v": 1.5, "t": [secret]}}
    scripted_api.script = lambda asked: answers.get(asked.path, row())
    config = gauges.config(auth={"query": "key"}, secret_env="GAUGES_KEY", symbols=["a", "b", "c", "d"])
    assert gauges.values(gauges.run(config, gauges.poll))["d/level"] == 1.5
    with pytest.raises(SourceError) as caught:
        gauges.run(gauges.config(auth={"query": "key"}, secret_env="GAUGES_KEY", symbols=["a"]), gauges.poll)
    told = caplog.text + "".join(traceback.format_exception(caught.value))
    assert "a: " in told
    assert "s3cret" not in told
    assert "key'" not in told


def test_a_secret_that_is_not_there_asks_nobody(
    gauges: Any, scripted_api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GAUGES_KEY", raising=False)
    with pytest.raises(SourceError, match="gauges: secret_env: environment variable GAUGES_KEY"):
        gauges.run(gauges.config(auth={"query": "key"}, secret_env="GAUGES_KEY"), gauges.poll)
    monkeypatch.setenv("GAUGES_KEY", "with\nlines")
    with pytest.raises(SourceError, match="characters that HTTP cannot carry"):
        gauges.run(gauges.config(auth={"query": "key"}, secret_env="GAUGES_KEY"), gauges.poll)
    assert scripted_api.asked == []


def test_a_symbol_cannot_leave_its_place_in_the_path(gauges: Any, scripted_api: Any, said: Any) -> None:
    scripted_api.script = lambda _: said({}, 404)
    with pytest.raises(SourceError):
        gauges.run(gauges.config(symbols=["../admin?x=1#y"]), gauges.poll)
    assert scripted_api.asked[0].path == "/v1/%2E%2E%2Fadmin%3Fx%3D1%23y"


def test_what_has_not_changed_is_not_sent_again(gauges: Any, scripted_api: Any, said: Any) -> None:
    def script(asked: Any) -> Any:
        if asked.headers.get("if-none-match") == '"1"' and asked.headers.get("if-modified-since"):
            return said(b"", 304)
        return said(row(), 200, {"ETag": '"1"', "Last-Modified": "Wed, 15 Nov 2023 00:00:00 GMT"})

    scripted_api.script = script

    async def polls(source: RestSource) -> dict[str, Any]:
        assert len(await source.poll()) == 2
        assert await source.poll() == []
        return dict(source.details())

    details = gauges.run(gauges.config(), polls)
    assert (details["not_modified"], details["last_status"], details["requests"]) == (2.0, "304", 4.0)


@pytest.mark.parametrize("tag", ["\xe4\xb6", "x" * 300])
def test_a_tag_that_cannot_be_sent_back_is_not(gauges: Any, scripted_api: Any, said: Any, tag: str) -> None:
    scripted_api.script = lambda _: said(row(t=T0 + len(scripted_api.asked)), 200, {"ETag": tag})

    async def polls(source: RestSource) -> list[int]:
        return [len(await source.poll()) for _ in range(2)]

    assert gauges.run(gauges.config(symbols=["a"]), polls) == [1, 1]
    assert "if-none-match" not in scripted_api.asked[1].headers


def test_a_redirect_on_the_same_server_is_followed_and_to_another_refused(
    gauges: Any, scripted_api: Any, said: Any
) -> None:
    targets = {"/v1/a": "/new", "/v1/b": "http://localhost:1/elsewhere"}
    scripted_api.script = lambda asked: (
        said(b"", 302, {"Location": targets[asked.path]}) if asked.path in targets else row()
    )
    assert gauges.values(gauges.run(gauges.config(), gauges.poll)) == {"a/level": 1.5, "b/level": None}
    for odd in ("//xn--]?", "http://xn--a/1", "http:.///[::1]:", "http://h:99999"):
        targets["/v1/b"] = odd
        assert gauges.values(gauges.run(gauges.config(), gauges.poll)) == {"a/level": 1.5, "b/level": None}
    targets["/new"] = "/new"
    with pytest.raises(SourceError, match="over 3 redirects"):
        gauges.run(gauges.config(symbols=["a"]), gauges.poll)


def test_pages_by_link_and_by_number_are_bounded(gauges: Any, scripted_api: Any) -> None:
    def script(asked: Any) -> Any:
        number = int(asked.query.get("page", 1))
        return {"rows": [row(number, T0 + number)], "next": f"/v1/a?page={number + 1}"}

    scripted_api.script = script
    by_link = {"rows": "rows", "paging": {"next": "next", "max_pages": 3}}
    by_number = {"rows": "rows", "paging": {"parameter": "page", "max_pages": 3}}
    for request in (by_link, by_number):
        readings = gauges.run(gauges.config(request, symbols=["a"]), gauges.poll)
        assert [(r.value, r.sampled_at_ms) for r in readings] == [(n, (T0 + n) * 1000) for n in (1, 2, 3)]
    assert len(scripted_api.asked) == 6


@pytest.mark.parametrize("link", ["http://localhost:1/x", "//evil.example/x", "http://[", 7])
def test_the_next_page_is_on_the_same_server(gauges: Any, scripted_api: Any, link: Any) -> None:
    scripted_api.script = lambda _: {"rows": [row()], "next": link}
    with pytest.raises(SourceError, match="a URL on the same server"):
        gauges.run(gauges.config({"rows": "rows", "paging": {"next": "next"}}, symbols=["a"]), gauges.poll)


def test_rows_of_all_pages_are_bounded(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: {
        "rows": [row(n, T0 + n) for n in range(2000)],
        "next": f"/v1/a?page={len(scripted_api.asked)}",
    }
    config = gauges.config({"rows": "rows", "paging": {"next": "next", "max_pages": 100}}, symbols=["a"])
    with pytest.raises(SourceError, match="over 5000 rows on all pages"):
        gauges.run(config, gauges.poll)
    assert len(scripted_api.asked) == 3


def test_a_page_that_names_itself_is_asked_once(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: {"rows": [row()], "next": "/v1/a"}
    assert len(gauges.run(gauges.config({"rows": "rows", "paging": {"next": "next"}}, symbols=["a"]), gauges.poll)) == 1
    assert len(scripted_api.asked) == 1


def test_csv_rows_belong_to_their_symbols(gauges: Any, scripted_api: Any) -> None:
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
    readings = gauges.run(gauges.config(request, symbols=["a", "b", "c"]), gauges.poll)
    assert gauges.values(readings) == {"a/level": None, "b/level": 2.5, "c/level": None}
    assert scripted_api.asked[0].query == {"s": "a,b,c"}


def test_the_new_api_of_the_page_gives_the_readings_of_the_page(
    gauges: Any, scripted_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "sources" / "rest.md").read_text(encoding="utf-8")
    api, answer, source = (
        re.findall(rf"^```{kind}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
        for kind in ("yaml api", "json answer", "yaml source")
    )
    (tmp_path / "gauge.yaml").write_text(api)
    monkeypatch.setenv("GAUGE_KEY", "k3y")
    scripted_api.script = lambda _: answer.encode()
    keys = {**yaml.safe_load(source), "preset_file": str(tmp_path / "gauge.yaml"), "base_url": scripted_api.url}
    readings = gauges.run(parse_config(keys, RestConfig, "edge.yaml"), gauges.poll)
    (asked,) = scripted_api.asked
    assert (asked.path, asked.query) == ("/v2/gauges/quay-3/levels", {"fields": "level,ice", "since": "today"})
    assert (asked.headers["authorization"], asked.headers["x-client"]) == ("Bearer k3y", "ops@example.com")
    told = [f"| {r.metric} | {utc(r.sampled_at_ms):%Y-%m-%d %H:%M} | {value_of(r)} |" for r in readings]
    assert told == re.findall(r"^\| quay-3/.*$", page, re.MULTILINE)


def utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def value_of(reading: Reading) -> str:
    if reading.quality != Quality.GOOD:
        return "bad quality"
    return f"{reading.value:g} m" if isinstance(reading.value, float) else str(reading.value).lower()
