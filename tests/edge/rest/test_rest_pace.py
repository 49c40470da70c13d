"""How often the REST source asks: pauses, rates, turns, quotas and market hours."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from edge.errors import SourceError
from edge.sources.rest.http import retry_after_s

if TYPE_CHECKING:
    from pathlib import Path

    from edge.sources.rest import RestSource

T0 = 1_700_000_000
NOW_MS = 1_800_000_000_123


def row(v: Any = 1.5, t: Any = T0) -> dict[str, Any]:
    return {"v": v, "t": t}


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


def test_retry_after_is_kept_to_over_a_reopening(gauges: Any, scripted_api: Any, said: Any) -> None:
    scripted_api.script = lambda _: said({}, 503, {"Retry-After": "1"})
    config = gauges.config(symbols=["a"])
    for _ in range(3):
        with pytest.raises(SourceError, match="503"):
            gauges.run(config, gauges.poll)
    assert len(scripted_api.asked) == 1
    scripted_api.script = lambda _: row()
    deadline = time.monotonic() + 10
    while True:
        try:
            readings = gauges.run(config, gauges.poll)
            break
        except SourceError:
            assert time.monotonic() < deadline
    assert gauges.values(readings) == {"a/level": 1.5}
    assert scripted_api.asked[1].at_s - scripted_api.asked[0].at_s >= 1


def test_requests_are_never_closer_than_the_limit(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: row()
    config = gauges.config(limits={"per_second": 2}, symbols=["a", "b", "c", "d"], interval_s=2, timeout_s=4)
    assert len(gauges.run(config, gauges.poll)) == 4
    at = [asked.at_s for asked in scripted_api.asked]
    assert all(later - earlier >= 1 for earlier, later in zip(at, at[2:], strict=False))


def test_what_a_poll_cannot_ask_in_time_is_asked_by_the_next(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: row()
    config = gauges.config(
        limits={"per_minute": 3}, symbols=list("abcd"), requests_per_poll=2, interval_s=40, timeout_s=0.5
    )

    async def polls(source: RestSource) -> list[set[str]]:
        return [set(gauges.values(await source.poll())) for _ in range(3)]

    assert gauges.run(config, polls) == [{"a/level", "b/level"}, {"c/level"}, set()]
    assert [asked.path for asked in scripted_api.asked] == ["/v1/a", "/v1/b", "/v1/c"]


def test_a_wait_that_is_long_is_told(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: row()
    config = gauges.config(limits={"per_hour": 1}, symbols=["a"], interval_s=3600)

    async def polls(source: RestSource) -> None:
        assert await source.poll()
        with pytest.raises(SourceError, match=r"the rate limit has room in 3\d\d\d\.\d s"):
            await source.poll()

    gauges.run(config, polls)


def test_requests_go_round_the_symbols(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: row()

    async def polls(source: RestSource) -> list[set[str]]:
        return [{metric[0] for metric in gauges.values(await source.poll())} for _ in range(3)]

    assert gauges.run(gauges.config(symbols=["a", "b", "c"], requests_per_poll=2), polls) == [
        {"a", "b"},
        {"c"},  # and a, whose values are known
        set(),
    ]


def test_a_days_quota_ends_and_is_renewed_and_a_restart_does_not_renew_it(
    gauges: Any, scripted_api: Any, tmp_path: Path
) -> None:
    scripted_api.script = lambda _: row(t=T0 + len(scripted_api.asked))
    quota: dict[str, Any] = {"limits": {"per_day": 2}, "quota_file": str(tmp_path / "quota.json"), "interval_s": 50_000}
    clock = [NOW_MS]
    config = gauges.config(symbols=["a"], **quota)

    async def polls(source: RestSource) -> dict[str, Any]:
        assert await source.poll()
        assert source.details()["quota_left_day"] == 1
        assert await source.poll()
        with pytest.raises(SourceError, match=r"the day's 2 requests are used up; next request at 2027-01-16 00:00:00"):
            await source.poll()
        return dict(source.details())

    assert gauges.run(config, polls, lambda: clock[0])["quota_left_day"] == 0
    restarted = gauges.config(symbols=["a"], **quota)
    with pytest.raises(SourceError, match="used up"):
        gauges.run(restarted, gauges.poll, lambda: clock[0])
    assert len(scripted_api.asked) == 2
    clock[0] += 86_400_000
    assert gauges.run(restarted, gauges.poll, lambda: clock[0])


def test_a_server_that_fails_does_not_use_up_the_days_quota(gauges: Any, scripted_api: Any, said: Any) -> None:
    scripted_api.script = lambda _: said(b"", 500)
    config = gauges.config(limits={"per_day": 48}, interval_s=3600)

    async def polls(source: RestSource) -> Any:
        for complaint in ("HTTP 500", "HTTP 500.*; next request at 2027-01-15 09:00:0", "next request at"):
            with pytest.raises(SourceError, match=complaint):
                await source.poll()
        return source.details()["quota_left_day"]

    assert gauges.run(config, polls) == 46
    assert len(scripted_api.asked) == 2


def test_a_request_that_reached_nobody_costs_no_quota(gauges: Any, scripted_api: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

    async def polls(source: RestSource) -> Any:
        for _ in range(3):
            with pytest.raises(SourceError, match=f"{url}/v1/a: All connection attempts failed"):
                await source.poll()
        return source.details()["quota_left_day"]

    assert gauges.run(gauges.config(limits={"per_day": 48}, interval_s=3600, base_url=url), polls) == 48
    assert not scripted_api.asked


def test_while_the_market_is_closed_it_is_asked_once_or_rarely(gauges: Any, scripted_api: Any) -> None:
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

    closed = gauges.config(symbols=["a"], hours="nyse")
    assert gauges.run(closed, polls, lambda: clock[0]) == [1, 0, 0, 0, 1]
    clock[0] = 1_795_305_600_000
    rarely = gauges.config(symbols=["a"], hours="nyse", closed_interval_s=1500)
    assert gauges.run(rarely, polls, lambda: clock[0]) == [1, 0, 1, 0, 1]
