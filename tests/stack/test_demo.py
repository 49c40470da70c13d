"""What the demo refuses before it starts or deletes anything, and what its screen says."""

from __future__ import annotations

import fcntl
import io
import json
import socket
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg2
import pytest
from rich.console import Console

from db import migrate
from stack.demo import System, models, view
from stack.demo.layout import Layout, Ports
from stack.demo.observe import Analysed, Ingested, Observer, Snapshot
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
        ingested=Ingested(rows=1234, dead_letters=0, gaps_declared=2, gaps_open=1, series=9, latency_p50_ms=750.0),
        kafka_lag=None,
        rates={"edge-1/line": 5.0, "edge-1/gate": 1.0, "rows": 6.0},
        analysed=Analysed(24, 1, 3, 40, 1200, 0.584),
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
    assert "3 (1 last)" in screen
    assert "2 declared, 1 open" in screen
    assert "given up" not in screen
    assert "no models: make models" in screen
    assert "kafka 2x" in screen
    assert "kafka killed" in screen


def test_a_snapshot_is_one_line_where_there_is_no_terminal() -> None:
    line = view.line(snapshot())
    assert "\n" not in line
    for part in ("6 readings/s", "spool 3 batches", "Kafka lag -", "rows 1,234", "p50 750 ms", "p99 -"):
        assert part in line


def test_gaps_are_counted_by_what_they_are(tmp_path: Path, database: str) -> None:
    migrate.migrate(database, 10)
    with closing(psycopg2.connect(database)) as opened, opened.cursor() as cursor:
        cursor.execute(
            "insert into gap (group_id, node_id, device_id, declared_at, from_at, to_at, reason, kind, epoch, "
            "first_batch, last_batch, batches, state) "
            "select 'g', 'n', '', now(), now() - interval '1 h', now(), 'r', kind, no, no, no, no, state from "
            "(values ('declared', null, null), ('undelivered', 1, 'open'), ('undelivered', 2, 'open'), "
            "('undelivered', 3, 'filled'), ('undelivered', 4, 'earlier'), ('undelivered', 5, 'given_up')) "
            "as gaps (kind, no, state)"
        )
        opened.commit()
    found = Observer(Layout(tmp_path, Ports()), database).ingested()
    assert (found.gaps_declared, found.gaps_open, found.gaps_given_up) == (1, 2, 1)
    shown = drawn(view.screen(replace(snapshot(), ingested=found), {}, [], "demo"))
    assert "1 declared, 2 open, 1 given up" in shown


def test_how_good_forecasts_are_is_told_where_there_are_models() -> None:
    served = replace(snapshot(), stream={"database": "ok", "kafka": "ok", "state": "running", "forecasting": {}})
    for shown in (view.line(served), drawn(view.screen(served, {}, [], "demo"))):
        assert "40 + 1,200 on devices, error 0.58 of naive's" in shown


def test_models_that_were_made_are_served_and_run_on_devices(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "demo", Ports())
    layout.directory.mkdir()
    inputs = {
        "tank-level": [{"name": "tank2/level"}],
        "stock-minute": [{"name": "price"}, {"name": "high", "metric": "price"}],
    }
    for name, each in inputs.items():
        package = tmp_path / "work" / name / "package"
        package.mkdir(parents=True)
        (package / "manifest.json").write_text(json.dumps({"inputs": each}))
    found = models.link(layout, tmp_path / "work")
    assert {name: path.resolve() for name, path in found.items()} == {
        name: (tmp_path / "work" / name / "package").resolve() for name in inputs
    }
    served = models.forecasting(layout, found)
    assert [binding["model"] for binding in served["bindings"]] == ["tank-level", "stock-minute"]
    assert models.on_device(3, found, ["AAPL"]) == []
    (tank,) = models.on_device(1, found, ["AAPL"])
    assert (tank["name"], tank["inputs"]) == ("tank-level", {"tank2/level": "line-a/tank2/level"})
    stocks = models.on_device(2, found, ["AAPL", "IBM"])
    assert [stock["name"] for stock in stocks] == ["stock-minute-AAPL", "stock-minute-IBM"]
    assert stocks[1]["inputs"] == {"price": "exchange/IBM/price"}


def test_without_models_there_are_none(tmp_path: Path) -> None:
    layout = Layout(tmp_path, Ports())
    assert models.link(layout, tmp_path / "work") == {}
    assert models.on_device(1, {}, ["AAPL"]) == []


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
