"""What a technician reads: of an agent at work, of one that fails, and of one that is down."""

from __future__ import annotations

import copy
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from edge.__main__ import main
from edge.lock import alone_in, is_used

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW_MS = 1_800_000_010_000
SOURCE: dict[str, Any] = {
    "type": "modbus",
    "interval_s": 1.0,
    "state": "ok",
    "readings": 100,
    "suppressed": 5,
    "polls": 1234,
    "failures": 1,
    "writes": 0,
    "restarts": 0,
    "last_sampled_at": NOW_MS - 400,
    "last": {},
    "details": {"line_occupancy": 0.25},
    "error": None,
    "skipped_ticks": 2,
    "overdue_s": 0.0,
}
MODEL: dict[str, Any] = {
    "state": "ok",
    "reason": None,
    "version": "1.2.0",
    "form": "tflite",
    "results": 12,
    "failed": 0,
    "last_result_at": NOW_MS - 3000,
}
WELL: dict[str, Any] = {
    "node": "demo/edge-1",
    "version": "0.1",
    "uptime_s": 11_520,
    "stuck": [],
    "clock": {
        "now": NOW_MS,
        "wall_offset_ms": 0,
        "state": "synchronised",
        "explanation": "the clock is right, and is synchronised",
    },
    "uplink": {"connected": True, "away": False, "unacknowledged": 3, "connections": 1, "error": None},
    "spool": {
        "max_bytes": 1 << 28,
        "outage_left_s": 360_000,
        "buffered": 0,
        "undated": 0,
        "evicted": 0,
        "dropped": 0,
        "set_aside": 0,
        "error": None,
        "batches": 7,
        "bytes": 2048,
        "oldest_at": NOW_MS - 1500,
        "lanes": {
            "alarm": {"batches": 0, "bytes": 0, "oldest_at": None},
            "live": {"batches": 7, "bytes": 2048, "oldest_at": NOW_MS - 1500},
        },
    },
    "sources": {"plant": SOURCE, "gate": SOURCE | {"details": {}}},
    "models": {"process": {"losses": 0, "pid": None}, "models": {"forecast": MODEL}},
    "process": {"pid": 1, "memory_bytes": 50 << 20, "cpu_s": 1.25, "open_files": 12},
}


@contextmanager
def page(report: object, status: int = 200) -> Iterator[str]:
    """A health page that says this."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(report).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_agent_that_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    with page(WELL) as url:
        assert main(["status", "--url", url]) == 0
    assert capsys.readouterr().out == (
        "node demo/edge-1, version 0.1, up for 3.2 h, 50 MiB of memory\n"
        "clock   the clock is right, and is synchronised\n"
        "uplink  delivering, 3 batches on their way\n"
        "spool   2 KiB of 256 MiB, which holds an outage of 4.17 d more\n"
        "\n"
        "lane   batches  size   oldest\n"
        "alarm  0        0 B    -\n"
        "live   7        2 KiB  1.5 s ago\n"
        "\n"
        "source  state  last reading  polls  failed  skipped  held back\n"
        "plant   ok     0.4 s ago     1,234  1       2        5\n"
        "gate    ok     0.4 s ago     1,234  1       2        5\n"
        "\n"
        "plant: line_occupancy 0.25\n"
        "\n"
        "model     state  last result  results  failed  version  form\n"
        "forecast  ok     3 s ago      12       0       1.2.0    tflite\n"
    )


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("sources.gate", SOURCE | {"state": "failing", "error": "no frame\x1b[2J"}, "! source gate: no frame?[2J"),
        ("uplink.connected", False, "! nothing is delivered: it is still connecting"),
        ("uplink.away", True, "! the broker is there, but nobody confirms what is sent: look at the bridge and Kafka"),
        ("spool.set_aside", 2, "! spool: 2 spoilt files lie in state_dir"),
        (
            "models.models.forecast",
            MODEL | {"state": "quarantined", "reason": "it hung"},
            "! model forecast is quarantined: it hung",
        ),
        ("stuck", ["source gate"], "! source gate does not go on"),
        ("spool.error", "the disk is full", "! spool: the disk is full"),
        ("clock.state", "waiting", "! the clock is right"),
    ],
)
def test_what_is_wrong_is_said_and_is_exit_code_1(
    path: str, value: object, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report: Any = copy.deepcopy(WELL)
    *parents, key = path.split(".")
    inner = report
    for parent in parents:
        inner = inner[parent]
    inner[key] = value
    with page(report, 503) as url:
        assert main(["status", "--url", url]) == 1
    told = capsys.readouterr().out
    assert problem in told
    assert "\x1b" not in told, "plain where nobody looks at a terminal"


def test_colour_is_for_terminals_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with page(WELL) as url:
        main(["status", "--url", url])
        coloured = capsys.readouterr().out
        monkeypatch.setenv("NO_COLOR", "1")
        main(["status", "--url", url])
        plain = capsys.readouterr().out
    assert "\x1b[32mok" in coloured
    assert "\x1b" not in plain
    for code in ("\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain, "the columns stand where they stood"


def test_json_is_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    with page(WELL) as url:
        assert main(["status", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out) == WELL


def test_another_page_is_no_agent(capsys: pytest.CaptureFixture[str]) -> None:
    others: tuple[object, ...] = ({}, [], "x", {"node": 1})
    keys = ("node", "uplink", "spool", "sources", "stuck")
    for other in others:
        with page(other) as url:
            assert main(["status", "--url", url]) == 1
        assert "no agent's health page" in capsys.readouterr().out
    values: tuple[object, ...] = ({}, [], None, 1)
    for value in values:
        with page(dict.fromkeys(keys, value)) as url:
            assert main(["status", "--url", url]) == 1
        assert "of another version?" in capsys.readouterr().out


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    """An agent that nobody has started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"preset": "open-meteo", "latitude": 1, "longitude": 2}
    document = {
        "group": "g",
        "node": "n",
        "state_dir": str(tmp_path / "state"),
        "mqtt": {"host": "h"},
        "health": {"port": port},
        "sources": [{"type": "rest", "name": "weather", "interval_s": 60, **place}],
    }
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_an_agent_that_is_down_leaves_traces(config_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(config_path)]) == 1
    told = capsys.readouterr().out
    assert "does not answer" in told
    assert "cannot be looked at: No such file" in told
    state = config_path.parent / "state"
    state.mkdir()
    assert main(["status", str(config_path)]) == 1
    assert "there is no spool yet" in capsys.readouterr().out
    (state / "spool-1000.db").write_bytes(b"x" * 5000)
    assert main(["status", str(config_path)]) == 1
    told = capsys.readouterr().out
    assert "none is at work" in told
    assert "spool-1000.db: 4.88 KiB, last changed" in told
    with alone_in(state):
        assert main(["status", str(config_path)]) == 1
        assert "but one is at work" in capsys.readouterr().out
    assert not is_used(state), "looking does not hold it"


def test_a_config_without_a_page_says_so(config_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load(config_path.read_text())
    for health, said in ((None, "serves no health page"), ({"port": 0}, "another port at each start")):
        config_path.write_text(yaml.safe_dump(document | {"health": health}))
        assert main(["status", str(config_path)]) == 1
        assert said in capsys.readouterr().out


def test_wrong_use_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", "https://127.0.0.1"]) == 2
    assert main(["status", str(tmp_path / "none.yaml")]) == 2
    with pytest.raises(SystemExit) as caught:
        main(["status"])
    assert caught.value.code == 2
    capsys.readouterr()
