"""What the REST source makes of answers that a test scripts: what is new, what is bad, and for whom."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.datatypes import DataType
from contract.sparkplug import Quality, decode
from edge.batch import batches_of_poll

if TYPE_CHECKING:
    from edge.reading import Reading
    from edge.sources.rest import RestSource

T0 = 1_700_000_000
NOW_MS = 1_800_000_000_123


def row(v: Any = 1.5, t: Any = T0) -> dict[str, Any]:
    return {"v": v, "t": t}


def test_a_row_is_a_reading_of_its_own_time(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda asked: row(2 if asked.path == "/v1/a" else 3)
    config = gauges.config(headers={"X-Who": "us"})
    readings = gauges.run(config, gauges.poll)
    assert [(r.metric, r.datatype, r.value, r.sampled_at_ms, r.quality) for r in readings] == [
        ("a/level", DataType.DOUBLE, 2.0, T0 * 1000, Quality.GOOD),
        ("b/level", DataType.DOUBLE, 3.0, T0 * 1000, Quality.GOOD),
    ]
    assert [(m.name, m.unit) for m in config.metrics()] == [("a/level", "m"), ("b/level", "m")]
    assert {asked.headers["x-who"] for asked in scripted_api.asked} == {"us"}
    assert scripted_api.asked[0].headers["user-agent"].startswith("headwater-edge/")


def test_values_are_new_by_their_time_whatever_a_cache_serves(gauges: Any, scripted_api: Any) -> None:
    times = iter([T0, T0, T0 + 2, T0 + 1, T0, T0 + 2, T0 + 3])
    scripted_api.script = lambda _: row(t=next(times))

    async def polls(source: RestSource) -> list[list[int]]:
        return [[r.sampled_at_ms // 1000 - T0 for r in await source.poll()] for _ in range(7)]

    assert gauges.run(gauges.config(symbols=["a"]), polls) == [[0], [], [2], [1], [], [], [3]]


def test_without_a_time_a_reading_has_the_moment_of_its_answer(gauges: Any, scripted_api: Any) -> None:
    found = iter([1, 1, 2])
    scripted_api.script = lambda _: {"v": next(found)}
    clock = iter(range(NOW_MS, NOW_MS + 1000))

    async def polls(source: RestSource) -> list[list[Any]]:
        return [[r.value for r in await source.poll()] for _ in range(3)]

    for only_changes, expected in ((False, [[1], [1], [2]]), (True, [[1], [], [2]])):
        found = iter([1, 1, 2])
        config = gauges.config({"time": None, "only_changes": only_changes}, symbols=["a"])
        assert gauges.run(config, polls, lambda: next(clock)) == expected


def test_source_time_and_receive_time_are_both_kept(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: row(t=T0)
    received_ms = T0 * 1000 + 2500
    config = gauges.config(symbols=["a"], lag=True)
    readings = gauges.run(config, gauges.poll, lambda: received_ms)
    assert gauges.values(readings) == {"a/level": 1.5, "a/lag": 2.5}
    assert {r.sampled_at_ms for r in readings} == {T0 * 1000}
    assert [(m.name, m.unit) for m in config.metrics()] == [("a/level", "m"), ("a/lag", "s")]
    # On the wire the time of receipt is the payload's own.
    (batch,) = batches_of_poll("gauges", readings, received_ms - 5, received_ms)
    payload = decode(batch.payload)
    assert payload.timestamp_ms == received_ms
    assert {metric.timestamp_ms for metric in payload.metrics} == {T0 * 1000}


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
    gauges: Any, scripted_api: Any, answer: Any, complaint: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    scripted_api.script = lambda asked: answer if asked.path == "/v1/b" else row()

    async def polls(source: RestSource) -> list[list[Reading]]:
        return [await source.poll(), await source.poll()]

    first, _ = gauges.run(gauges.config(), polls)
    assert gauges.values(first) == {"a/level": 1.5, **({} if answer == [] else {"b/level": None})}
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    # Once, however often it is polled.
    assert len(warnings) == (0 if answer == [] else 1)
    if complaint:
        assert f"{scripted_api.url}/v1/b: " in warnings[0]
        assert complaint in warnings[0]


def test_a_symbol_that_comes_back_is_told_and_its_values_said_again(
    gauges: Any, scripted_api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {"/v1/a": row(), "/v1/b": row()}
    scripted_api.script = lambda asked: answers[asked.path]

    async def polls(source: RestSource) -> None:
        await source.poll()
        answers["/v1/b"] = row(t="?")
        assert gauges.values(await source.poll()) == {"b/level": None}
        answers["/v1/b"] = row()
        assert gauges.values(await source.poll()) == {"b/level": 1.5}

    with caplog.at_level("INFO"):
        gauges.run(gauges.config(), polls)
    assert [r.getMessage() for r in caplog.records if r.levelname == "INFO"] == ["gauges: b is answered again"]


def test_a_poll_that_is_cancelled_has_not_seen_its_values(gauges: Any, scripted_api: Any) -> None:
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
        assert set(gauges.values(await source.poll())) == {"a/level", "b/level"}

    gauges.run(gauges.config(timeout_s=20), polls)


def test_a_server_that_hangs_at_one_symbol_does_not_cost_the_others(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda asked: scripted_api.over.wait(20) if asked.path == "/v1/b" else row()
    began_s = time.monotonic()
    assert gauges.values(gauges.run(gauges.config(timeout_s=0.4), gauges.poll)) == {"a/level": 1.5, "b/level": None}
    assert time.monotonic() - began_s < 1


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_server_that_refuses_is_not_asked_for_the_rest(
    gauges: Any, scripted_api: Any, status: int, said: Any
) -> None:
    scripted_api.script = lambda asked: said({}, status) if asked.path == "/v1/b" else row()
    assert gauges.values(gauges.run(gauges.config(symbols=["a", "b", "c"]), gauges.poll)) == {
        "a/level": 1.5,
        "b/level": None,
        "c/level": None,
    }
    assert [asked.path for asked in scripted_api.asked] == ["/v1/a", "/v1/b"]


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
def test_values_by_type_unit_and_flag(
    gauges: Any, scripted_api: Any, metric: dict[str, Any], found: Any, value: Any
) -> None:
    scripted_api.script = lambda _: {"v": found, "t": T0, "u": "m", "q": "V"}
    described = {"name": "level", "value": "v", "unit": "m"} | metric
    (reading,) = gauges.run(gauges.config({"metrics": [described]}, symbols=["a"]), gauges.poll)
    assert reading.value == (pytest.approx(value) if isinstance(value, float) else value)
    assert reading.quality == (Quality.BAD if value is None else Quality.GOOD)


def test_what_is_optional_is_no_reading(gauges: Any, scripted_api: Any) -> None:
    scripted_api.script = lambda _: {"t": T0}
    described = {"name": "gust", "value": "v", "optional": True}
    assert gauges.run(gauges.config({"metrics": [described]}, symbols=["a"]), gauges.poll) == []
