"""What the demo refuses before it starts or deletes anything, and what its screen says."""

from __future__ import annotations

import fcntl
import io
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from stack.demo import System, view
from stack.demo.layout import Ports
from stack.demo.observe import Ingested, Snapshot
from stack.demo.supervisor import Event, Supervisor
from stack.demo.system import Settings
from stack.errors import StackError
from stack.process import wait_until
from stack.server import LOOPBACK, free_port

if TYPE_CHECKING:
    from pathlib import Path


def start(directory: Path, ports: Ports | None = None) -> None:
    with System(Settings(directory, ports or Ports.free(), say=lambda _text: None)):
        pytest.fail("it started")


def test_a_directory_that_no_demo_made_is_not_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("chapter 1")
    with pytest.raises(StackError, match="holds files that no demo made"):
        start(tmp_path)
    assert precious.read_text() == "chapter 1"


def test_the_directory_of_a_running_demo_is_left_alone(tmp_path: Path) -> None:
    ledger = tmp_path / "ledgers" / "plant.jsonl"
    ledger.parent.mkdir()
    ledger.write_text("{}")
    with (tmp_path / ".headwater-demo").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StackError, match="a demo runs in"):
            start(tmp_path)
    assert ledger.exists()


def test_a_taken_port_is_named_and_the_last_run_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".headwater-demo").touch()
    (tmp_path / "reader.dsn").write_text("kept")
    port = free_port()
    with socket.create_server((LOOPBACK, port)), pytest.raises(StackError, match=f"port {port} is taken"):
        start(tmp_path, replace(Ports.free(), bridge_health=port))
    assert (tmp_path / "reader.dsn").read_text() == "kept"


def source(readings: int, **more: object) -> dict[str, object]:
    last = {"level": None, "flow": 12.5}
    return {"state": "ok", "readings": readings, "last": last, "error": None, "last_sampled_at": 0, **more}


def snapshot() -> Snapshot:
    health = {
        "spool": {"batches": 3, "bytes": 2048},
        "sources": {"line": source(10), "gate": source(1, state="failing", error="gate: no frame for 5 s")},
    }
    return Snapshot(
        nodes={"edge-1": health, "edge-2": None},
        bridge=None,
        stream={"database": "away", "kafka": "ok"},
        ingested=Ingested(rows=1234, dead_letters=0, gaps=1, series=9, latency_p50_ms=750.0),
        kafka_lag=None,
        rates={"edge-1/line": 5.0, "edge-1/gate": 1.0, "rows": 6.0},
    )


def drawn(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_screen_shows_every_source_and_what_does_not_answer() -> None:
    screen = drawn(view.screen(snapshot(), {"kafka": 2}, [Event(time.time(), "kafka killed")], "demo"))
    line, gate, silent = screen.splitlines()[2:5]
    for part in ("edge-1", "line", "ok", "5.0", "3 / 2 KiB", "flow = 12.5"):
        assert part in line
    assert "failing" in gate
    assert "1.0" in gate
    assert "no frame for 5 s" in gate
    assert "does not answer" in silent
    assert "database away" in screen
    assert "1,234 (+6/s)" in screen
    assert "750 ms" in screen
    assert "kafka 2x" in screen
    assert "kafka killed" in screen


def test_a_snapshot_is_one_line_where_there_is_no_terminal() -> None:
    line = view.line(snapshot())
    assert "\n" not in line
    for part in ("6 readings/s", "spool 3 batches", "Kafka lag -", "rows 1,234", "p50 750 ms", "p99 -"):
        assert part in line


class Stubborn:
    """A member that cannot be started at first."""

    running = False
    tries = 0

    def start(self) -> None:
        self.tries += 1
        if self.tries == 1:
            raise StackError("not yet")
        self.running = True

    def stop(self) -> None:
        self.running = False

    kill = stop


def test_a_member_that_cannot_be_started_is_tried_again() -> None:
    supervisor = Supervisor()
    member = Stubborn()
    supervisor.watch("kafka", member)
    assert wait_until(lambda: supervisor.supervise() or member.running, timeout_s=10)
    assert [event.text for event in supervisor.events] == [
        "kafka ended",
        "kafka could not be started: not yet",
        "kafka started again",
    ]
    assert supervisor.restarts == {"kafka": 2}
