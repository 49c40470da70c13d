"""Servers that mean harm, or have lost their mind: bounded in memory and time, whatever they send."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import parse_config
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.polling import Poller
from edge.sources import RestConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

T0 = 1_700_000_000
MIB = 1 << 20
MAX_BYTES = 262_144


def config_of(api: Any, **more: Any) -> RestConfig:
    metrics = [{"name": "level", "value": "v"}]
    described = {
        "title": "Gauge",
        "base_url": api.url,
        "requests": [{"path": "/v", "time": {"value": "t", "format": "unix_s"}, "metrics": metrics}],
    }
    document = {"type": "rest", "name": "gauge", "interval_s": 1, "timeout_s": 2.0, "api": described}
    return parse_config(document | more, RestConfig, "edge.yaml")


def error_of(config: RestConfig) -> str:
    async def poll() -> None:
        async with config.open(lambda: 0) as source:
            await source.poll()

    with pytest.raises(SourceError) as caught:
        asyncio.run(poll())
    return str(caught.value)


def sending(headers: str, pieces: Callable[[], Any]) -> Callable[[Any], Callable[[BaseHTTPRequestHandler], None]]:
    """A script that writes a head and then pieces, for as long as anybody listens."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode())
            for piece in pieces():
                handler.wfile.write(piece)

    return lambda _: write


def a_hundred_mib() -> Any:
    return (b" " * MIB for _ in range(100))


def bomb() -> bytes:
    """100 MiB of blanks in 100 kB."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b" " * MIB) for _ in range(100)) + packer.flush()


@pytest.mark.parametrize(
    ("headers", "pieces", "complaint"),
    [
        ("Content-Length: 104857600\r\n", a_hundred_mib, "over 262144 bytes"),
        ("Connection: close\r\n", a_hundred_mib, "over 262144 bytes"),
        (
            "Transfer-Encoding: chunked\r\n",
            lambda: (b"100000\r\n" + b" " * MIB + b"\r\n" for _ in range(100)),
            "over 262144 bytes",
        ),
        ("Content-Encoding: gzip\r\nConnection: close\r\n", lambda: [bomb()], "over 262144 bytes"),
        ("Content-Encoding: gzip\r\nConnection: close\r\n", lambda: [gzip.compress(bomb())], "not JSON"),
        ("Content-Encoding: gzip\r\nConnection: close\r\n", lambda: [gzip.compress(b"{}" * 1000)[:-9]], "too early"),
        ("Content-Encoding: gzip\r\nConnection: close\r\n", lambda: [b"no gzip"], "incorrect header check"),
        ("Content-Encoding: br\r\nConnection: close\r\n", lambda: [b"x"], "encoded as 'br', allowed is gzip"),
        ("Content-Encoding: gzip, gzip\r\nConnection: close\r\n", lambda: [b"x"], "allowed is gzip"),
        ("X-Long: " + "x" * 200_000 + "\r\nConnection: close\r\n", lambda: [b"{}"], ""),
        ("Content-Length: 10\r\nContent-Length: 20\r\n", lambda: [b"{}"], ""),
        ("Content-Length: minus\r\n", lambda: [b"{}"], ""),
        ("Transfer-Encoding: chunked\r\n", lambda: [b"zz\r\n{}\r\n"], ""),
        ("Connection: close\r\n" + "".join(f"Set-Cookie: c{i}=x\r\n" for i in range(500)), lambda: [b"{}"], "missing"),
    ],
)
def test_what_is_sent_is_bounded(scripted_api: Any, headers: str, pieces: Any, complaint: str) -> None:
    scripted_api.script = sending(headers, pieces)
    config = config_of(scripted_api)
    tracemalloc.start()
    try:
        began_s = time.monotonic()
        error = error_of(config)
        assert f"{scripted_api.url}/v" in error
        assert complaint in error
        assert time.monotonic() - began_s < 5
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # The server's own MiB and the library's imports are in it.
    assert peak < 40 * MIB


@pytest.mark.parametrize("shape", ["[", '{"a":', '{"v":[', "[[],"])
def test_a_deep_or_wide_document_costs_no_more_than_its_bound(scripted_api: Any, shape: str) -> None:
    scripted_api.script = lambda _: (shape * MAX_BYTES)[: MAX_BYTES - 1].encode()
    began_s = time.monotonic()
    assert "not JSON" in error_of(config_of(scripted_api))
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("status", ["500 " + "x" * 60_000, "x" * 60_000])
def test_what_a_server_says_fits_into_a_line(scripted_api: Any, status: str) -> None:
    def write(handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    scripted_api.script = lambda _: write
    assert len(error_of(config_of(scripted_api))) < 600


def test_a_wide_list_of_rows_is_refused(scripted_api: Any) -> None:
    scripted_api.script = lambda _: [{} for _ in range(5001)]
    assert "over 5000 rows" in error_of(config_of(scripted_api))


def test_gzip_is_read(scripted_api: Any, said: Any) -> None:
    body = gzip.compress(b'{"v": 4, "t": 1700000000}')
    scripted_api.script = lambda _: said(body, 200, {"Content-Encoding": "gzip"})

    async def poll() -> Any:
        async with config_of(scripted_api).open(lambda: 0) as source:
            return await source.poll()

    assert [reading.value for reading in asyncio.run(poll())] == [4.0]
    assert scripted_api.asked[0].headers["accept-encoding"] == "gzip"


def slow(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, and never the last one."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not handler.server.over.wait(0.05):  # type: ignore[attr-defined]  # the scripted server's
            handler.wfile.write(b" ")


@pytest.mark.parametrize("way", ["silent", "slow"])
def test_a_silent_or_slow_api_is_cut_and_harms_no_other_source(scripted_api: Any, way: str, eventually: Any) -> None:
    """Two sources at one server, of which one gets no answer: the other misses no tick."""
    scripted_api.script = lambda asked: (
        {"v": len(scripted_api.asked), "t": T0 + len(scripted_api.asked)}
        if asked.path == "/ok/v"
        else (slow if way == "slow" else scripted_api.over.wait(30))
    )
    good_config = config_of(scripted_api, name="good", interval_s=0.05, base_url=f"{scripted_api.url}/ok")
    bad_config = config_of(scripted_api, name="bad", interval_s=0.1, timeout_s=0.3)

    async def work() -> tuple[Any, Any]:
        kept: dict[str, list[Any]] = {"good": [], "bad": []}

        def keep(poll: Any) -> None:
            kept[poll.source].extend(poll.readings)

        pollers = [Poller(config, keep, lambda: 0) for config in (good_config, bad_config)]
        tasks = [asyncio.create_task(poller.run()) for poller in pollers]
        await eventually(lambda: len(kept["good"]) >= 40 and len(kept["bad"]) >= 2, "polls of both")
        for poller in pollers:
            poller.stop()
        await asyncio.gather(*tasks)
        return kept, pollers

    kept, (good, bad) = asyncio.run(work())
    assert {reading.quality for reading in kept["good"]} == {Quality.GOOD}
    assert good.status.failures == 0
    assert {(reading.value, reading.quality) for reading in kept["bad"]} == {(None, Quality.BAD)}
    # What the technician sees.
    assert bad.status.state == "failing"
    assert bad.status.error == f"{scripted_api.url}/v: no answer in 0.27 s"
