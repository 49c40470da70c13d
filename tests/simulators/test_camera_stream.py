from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest

from simulators.camera.frames import Broadcast, FrameMaker
from simulators.camera.incidents import IncidentPlan
from simulators.camera.mjpeg import MjpegResponse
from simulators.camera.scene import Scene
from simulators.ledger import Closed, Ledger, Served, read_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from pathlib import Path

DAY_S = 86_400.0


@dataclass(frozen=True)
class Part:
    """A part of a multipart stream as a client reads it."""

    at_ms: int
    jpeg: bytes

    @property
    def values(self) -> dict[str, float]:
        """What an agent measures of it."""
        grey = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        return {"brightness": float(grey.mean()), "sharpness": float(cv2.Laplacian(grey, cv2.CV_64F).var())}


def _parts(chunks: Iterator[bytes], boundary: bytes) -> Iterator[Part]:
    """A strict reader of multipart/x-mixed-replace, written from the format and not from the simulator."""
    waiting = b""
    for chunk in chunks:
        waiting += chunk
        while b"\r\n\r\n" in waiting:
            head, _, rest = waiting.partition(b"\r\n\r\n")
            first, *lines = head.split(b"\r\n")
            assert first == b"--" + boundary
            headers = dict(line.decode().split(": ", 1) for line in lines)
            length = int(headers["Content-Length"])
            if len(rest) < length + 2:
                break
            assert headers["Content-Type"] == "image/jpeg"
            assert rest[length : length + 2] == b"\r\n"
            seconds, thousandths = headers["X-Timestamp"].split(".")
            assert len(thousandths) == 3
            yield Part(int(seconds + thousandths), rest[:length])
            waiting = rest[length + 2 :]


def _watch(url: str, count: int) -> list[Part]:
    with httpx.stream("GET", url, timeout=10) as answer:
        kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
        assert (answer.status_code, kind) == (200, "multipart/x-mixed-replace")
        return list(itertools.islice(_parts(answer.iter_bytes(), boundary.encode()), count))


def test_the_ledger_has_what_the_client_saw_to_the_last_bit(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate", seed=7)
    seen = _watch(camera.addresses["mjpeg"], 15)
    camera.wait_for("the connection closed", lambda c: len(c.closed()) == 1)
    noted = camera.served()
    assert [(entry.source_at, entry.values) for entry in noted[:15]] == [(part.at_ms, part.values) for part in seen]
    # What was on its way as the client left, and no more.
    assert len(noted) <= 15 + 12
    assert {entry.connection for entry in noted} == {camera.closed()[0].connection}
    # A busy machine leaves frames out; it never moves one off its tenth of a second.
    assert all(part.at_ms % 100 == 0 for part in seen)
    assert all(before.at_ms < after.at_ms for before, after in itertools.pairwise(seen))
    assert all(entry.at >= entry.source_at for entry in noted)


def test_what_was_served_can_be_made_again_from_seed_and_time(start_simulator: Callable[..., Any]) -> None:
    schedules: list[dict[str, Any]] = [{"kinds": ["intrusion", "smoke"], "every_s": 4, "duration_s": 3}]
    camera = start_simulator(type="camera", name="gate", seed=7, incidents=schedules)
    seen = _watch(camera.addresses["mjpeg"], 10)
    from simulators.camera.incidents import IncidentSchedule  # noqa: PLC0415  # heavy: loaded where it is used

    plan = IncidentPlan(7, [IncidentSchedule.model_validate(schedule) for schedule in schedules])
    maker = FrameMaker(Scene(7, 320, 240, DAY_S), plan, 10)
    assert [maker.make(part.at_ms // 100).jpeg for part in seen] == [part.jpeg for part in seen]


def test_every_client_gets_the_same_frames(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate", fps=20)
    found: list[list[Part]] = []
    threads = [
        threading.Thread(target=lambda: found.append(_watch(camera.addresses["mjpeg"], 20)), name=f"client {n}")
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 3
    by_time = {part.at_ms: part.jpeg for part in found[0]}
    for other in found[1:]:
        shared = [part for part in other if part.at_ms in by_time]
        assert len(shared) >= 10
        assert all(by_time[part.at_ms] == part.jpeg for part in shared)
    camera.wait_for("three connections closed", lambda c: len(c.closed()) == 3)
    assert len({closed.connection for closed in camera.closed()}) == 3


def test_a_client_that_does_not_read_holds_up_nobody_and_misses_frames(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate", fps=30)
    address = httpx.URL(camera.url)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        slow.connect((address.host, address.port))
        slow.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: gate\r\n\r\n")
        camera.wait_for("the slow client's first frame", lambda c: len(c.served()) > 0)
        connection = camera.served()[0].connection
        assert len(_watch(camera.addresses["mjpeg"], 90)) == 90
        # Some 13 kB a frame: the buffers take these few and no more, however long it goes on.
        to_slow = [entry for entry in camera.served() if entry.connection == connection]
        assert 0 < len(to_slow) < 40
    camera.wait_for("both connections closed", lambda c: len(c.closed()) == 2)


def test_nothing_is_rendered_while_nobody_watches(
    start_simulator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make = FrameMaker.make
    monkeypatch.setattr(FrameMaker, "make", lambda self, number: made.append(number) or make(self, number))
    camera = start_simulator(type="camera", name="gate", fps=30)
    _watch(camera.addresses["mjpeg"], 5)
    camera.wait_for("the connection closed", lambda c: len(c.closed()) == 1)
    # The snapshot waits its turn behind a frame that was begun before the close.
    httpx.get(camera.addresses["snapshot"])
    before = len(made)
    # Nothing is to happen, so there is nothing to wait for but time: twelve frames' worth.
    time.sleep(0.4)
    assert len(made) == before


def test_snapshots_and_onlookers_are_not_in_the_ledger(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate", seed=7)
    answer = httpx.get(camera.addresses["snapshot"])
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/jpeg")
    at_ms = int(answer.headers["X-Timestamp"].replace(".", ""))
    assert FrameMaker(Scene(7, 320, 240, DAY_S), IncidentPlan(7), 10).make(at_ms // 100).jpeg == answer.content
    assert len(_watch(camera.addresses["watch"], 3)) == 3
    assert httpx.head(camera.addresses["mjpeg"]).status_code == 200
    assert camera.served() == camera.closed() == []


def test_an_incident_on_demand_changes_the_picture_and_is_labelled(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate")
    answer = httpx.post(f"{camera.url}/incidents?kind=lens_covered&duration_s=1.5")
    assert answer.status_code == 201
    incident = answer.json()
    assert incident["to"] - incident["from"] == 1500
    seen = _watch(camera.addresses["mjpeg"], 30)
    covered = [part.values["brightness"] for part in seen if incident["from"] <= part.at_ms < incident["to"]]
    clear = [part.values["sharpness"] for part in seen if part.at_ms >= incident["to"]]
    assert covered
    assert clear
    assert max(covered) < 20
    flat = [part.values["sharpness"] for part in seen if incident["from"] <= part.at_ms < incident["to"]]
    assert min(clear) > 2 * max(flat)
    camera.wait_for("start and end noted", lambda c: len(c.incidents()) == 2)
    assert [(i.label, i.from_ms, i.to_ms) for i in camera.incidents()] == [
        ("lens_covered", incident["from"], None),
        ("lens_covered", incident["from"], incident["to"]),
    ]
    assert httpx.get(f"{camera.url}/incidents").json() == []


def test_scheduled_incidents_are_labelled_though_nobody_watches(start_simulator: Callable[..., Any]) -> None:
    schedule = {"kinds": ["smoke"], "every_s": 1, "duration_s": 0.5, "at_s": 0.25}
    camera = start_simulator(type="camera", name="gate", incidents=[schedule])
    camera.wait_for("an incident begun and ended", lambda c: any(i.to_ms for i in c.incidents()))
    ended = next(i for i in camera.incidents() if i.to_ms)
    assert (ended.label, ended.from_ms % 1000, ended.to_ms % 1000) == ("smoke", 250, 750)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/incidents", 400),
        ("POST", "/incidents?kind=fire", 400),
        ("POST", "/incidents?kind=smoke&duration_s=nan", 400),
        ("POST", "/incidents?kind=smoke&duration_s=0", 400),
        ("POST", "/incidents?kind=smoke&duration_s=x", 400),
        ("POST", "/stream.mjpg", 405),
        ("GET", "/stream", 404),
    ],
)
def test_a_wrong_request_is_refused(start_simulator: Callable[..., Any], method: str, path: str, status: int) -> None:
    camera = start_simulator(type="camera", name="gate")
    assert httpx.request(method, camera.url + path).status_code == status
    assert httpx.get(f"{camera.url}/incidents").json() == []


def test_a_stop_ends_the_streams(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate")
    ended = threading.Event()

    def watch() -> None:
        assert 1 < len(_watch(camera.addresses["mjpeg"], 10_000)) < 10_000
        ended.set()

    client = threading.Thread(target=watch, name="client")
    client.start()
    camera.wait_for("frames sent", lambda c: len(c.served()) > 3)
    started = time.monotonic()
    camera.stop()
    assert time.monotonic() - started < 2
    client.join(5)
    assert ended.is_set()
    assert len(camera.closed()) == 1


def test_a_frame_that_is_on_its_way_as_its_client_goes_is_noted(tmp_path: Path) -> None:
    async def check(ledger: Ledger) -> None:
        broadcast = Broadcast(FrameMaker(Scene(1, 64, 48, DAY_S), IncidentPlan(1), 10))
        on_its_way = asyncio.Event()

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                on_its_way.set()
                await asyncio.Event().wait()  # the socket takes no more

        async def receive() -> MutableMapping[str, Any]:
            await on_its_way.wait()
            return {"type": "http.disconnect"}

        async with asyncio.timeout(20), broadcast.running():
            await MjpegResponse(broadcast, ledger, 5)({"type": "http"}, receive, send)

    path = tmp_path / "gate.jsonl"
    with Ledger(path, {"simulator": "gate", "seed": 1, "match": "frame"}) as ledger:
        asyncio.run(check(ledger))
    _, served, closed = read_ledger(path)
    assert isinstance(served, Served)
    assert isinstance(closed, Closed)
    assert served.connection == closed.connection == 5
