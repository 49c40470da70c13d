"""Chunks from a web server: slow, cut off, garbled or wrong; nothing but what was signed is ever taken."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from edge.errors import NotNowError, UpdateError
from edge.update.fetching import Fetcher
from edge.update.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONTENT = bytes(range(250))
# As a piece: nothing more comes, and the connection stays.
STILL = b"still"


class WebServer:
    """Gives what is asked for, unless `spoil` makes something else of it: a status, and a body in pieces.

    Before each piece it waits for `pause_s`; a piece that is None ends the connection.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.spoil: Callable[[int, bytes], tuple[int, list[bytes | None]]] = lambda _number, body: (206, [body])
        self.pause_s = 0.0
        self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/blob"

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(web: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            web.asked.append((first, last))
            status, pieces = web.spoil(len(web.asked), CONTENT[first : last + 1])
            self.send_response(status)
            cut = None in pieces or STILL in pieces
            self.send_header(
                "Content-Length", str(last + 1 - first if cut else sum(len(piece or b"") for piece in pieces))
            )
            self.end_headers()
            with contextlib.suppress(OSError):  # who has enough hangs up
                for piece in pieces:
                    if piece is None or web.stopped.wait(60 if piece is STILL else web.pause_s):
                        return
                    self.wfile.write(piece)

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.stop()


class Device:
    """What fetches, chunk by chunk of 100 bytes, into a directory; after a power cut there is another."""

    def __init__(self, directory: Path, operator: Any, url: str) -> None:
        self.desired = operator.desire(CONTENT, chunk_bytes=100, url=url)
        self.staging = Staging(directory)
        self.is_wanted = True
        self._fetcher = self._new_fetcher()

    def _new_fetcher(self) -> Fetcher:
        shelf: Any = None
        return Fetcher(shelf, self.staging, 1e9, None)

    def cut_power(self) -> None:
        self._fetcher = self._new_fetcher()

    def fetch(self) -> bytes:
        async def room(_size: int) -> None:
            """There is enough."""

        async def is_wanted() -> bool:
            return self.is_wanted

        return asyncio.run(self._fetcher.fetch(self.desired, is_wanted, room)).read_bytes()

    @property
    def fetched_bytes(self) -> int:
        return self._fetcher.fetched_bytes


@pytest.fixture
def device(tmp_path: Path, operator_key: Any, web: WebServer) -> Device:
    return Device(tmp_path, operator_key, web.url)


def test_it_comes_in_parts(device: Device, web: WebServer) -> None:
    assert device.fetch() == CONTENT
    assert web.asked == [(0, 99), (100, 199), (200, 249)]
    assert device.fetched_bytes == 250


def test_a_slow_link_is_no_broken_one(device: Device, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.update.from_url._STILL_S", 2.5)
    web.pause_s = 0.06
    # The first chunk takes longer than a link may be still.
    web.spoil = lambda number, body: (206, [body[at : at + 2] for at in range(0, 100, 2)] if number == 1 else [body])
    assert device.fetch() == CONTENT
    assert web.asked == [(0, 99), (100, 199), (200, 249)]


def test_a_link_that_is_still_is_told_and_gone_on_with_where_it_was(
    device: Device, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.spoil = lambda number, body: (206, [body] if number > 1 else [body[:40], STILL])
    with monkeypatch.context() as patch:
        patch.setattr("edge.update.from_url._STILL_S", 1.0)
        with pytest.raises(NotNowError, match=r"/blob: no byte came for 1 s"):
            device.fetch()
    assert device.fetch() == CONTENT
    assert web.asked == [(0, 99), (40, 99), (100, 199), (200, 249)]


def test_inside_of_a_chunk_it_goes_on_where_it_was_cut_off(device: Device, web: WebServer) -> None:
    web.spoil = lambda number, body: (206, [body] if number > 3 else [body[:30], None])
    for _ in range(3):
        with pytest.raises(NotNowError, match="/blob: "):
            device.fetch()
        device.cut_power()
    assert device.fetch() == CONTENT
    assert web.asked == [(0, 99), (30, 99), (60, 99), (90, 99), (100, 199), (200, 249)]


def test_an_answer_that_ends_early_is_gone_on_with(device: Device, web: WebServer) -> None:
    web.spoil = lambda number, body: (206, [body[:30] if number == 1 else body])
    with pytest.raises(NotNowError, match="ended after 30 of the 100 bytes of chunk 0"):
        device.fetch()
    assert device.fetch() == CONTENT
    assert web.asked == [(0, 99), (30, 99), (100, 199), (200, 249)]


def test_a_beginning_that_a_power_cut_has_spoilt_is_fetched_again(device: Device, web: WebServer) -> None:
    device.staging.resume(device.desired)
    device.staging.keep(device.desired, 0, 0, b"x" * 40)
    with pytest.raises(NotNowError, match=r"chunk 0 is not what was signed: .*; it is asked for again"):
        device.fetch()
    assert device.fetch() == CONTENT
    assert web.asked == [(40, 99), (0, 99), (100, 199), (200, 249)]


def test_one_who_knows_no_parts_begins_anew(tmp_path: Path, operator_key: Any, web: WebServer) -> None:
    device = Device(tmp_path, operator_key, web.url)
    device.desired = operator_key.desire(CONTENT, chunk_bytes=250, url=web.url)
    web.spoil = lambda number, body: (200, [body] if number > 1 else [body[:30], None])
    with pytest.raises(NotNowError):
        device.fetch()
    web.spoil = lambda _number, _body: (200, [CONTENT])
    assert device.fetch() == CONTENT


def test_what_is_taken_back_is_not_fetched_on_within_a_chunk(device: Device, web: WebServer) -> None:
    def cut(_number: int, body: bytes) -> tuple[int, list[bytes | None]]:
        device.is_wanted = False
        return 206, [body]

    web.spoil = cut
    with pytest.raises(NotNowError, match="another one comes first"):
        device.fetch()
    assert web.asked == [(0, 99)]


def test_a_bad_chunk_is_fetched_again_before_it_is_refused(device: Device, web: WebServer) -> None:
    web.spoil = lambda number, body: (206, [body if number > 3 else body[::-1]])
    for tries in (1, 2, 3):
        with pytest.raises(NotNowError, match=f"chunk 0 is not what was signed: .* again \\({tries} of 5 times\\)"):
            device.fetch()
        assert device.fetched_bytes == 0, "so that it waits longer and longer"
    assert device.fetch() == CONTENT


def test_a_chunk_that_stays_bad_is_refused_with_its_reason(device: Device, web: WebServer) -> None:
    web.spoil = lambda _number, body: (206, [body[::-1]])
    for _ in range(4):
        with pytest.raises(NotNowError):
            device.fetch()
    with pytest.raises(UpdateError, match=r"/blob: chunk 0 is not what was signed: .*, 5 times") as refused:
        device.fetch()
    assert not isinstance(refused.value, NotNowError)


def test_a_page_to_sign_in_at_is_never_taken_for_it(tmp_path: Path, operator_key: Any, web: WebServer) -> None:
    device = Device(tmp_path, operator_key, web.url)
    device.desired = operator_key.desire(CONTENT, chunk_bytes=250, url=web.url)
    web.spoil = lambda _number, _body: (200, [b"<html>" * 100])
    for _ in range(10):
        with pytest.raises(NotNowError, match="answers with 600 bytes, wanted are 250"):
            device.fetch()
    web.spoil = lambda _number, body: (206, [body])
    assert device.fetch() == CONTENT


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (206, CONTENT[:100] + b"x", "more came than the 100 bytes of chunk 0; it is asked for again"),
        (200, CONTENT, "answers 200, wanted is 206"),
        (404, b"", "answers 404"),
        (302, b"", "answers 302"),
        (416, b"", "answers 416"),
    ],
)
def test_what_a_web_server_gives_is_not_believed(
    device: Device, web: WebServer, status: int, body: bytes, why: str
) -> None:
    web.spoil = lambda _number, _body: (status, [body])
    with pytest.raises(NotNowError, match=why):
        device.fetch()
    web.spoil = lambda _number, body: (206, [body])
    assert device.fetch() == CONTENT


def test_a_server_that_is_away_is_waited_for(device: Device, web: WebServer) -> None:
    web.stop()
    with pytest.raises(NotNowError, match="/blob: "):
        device.fetch()
