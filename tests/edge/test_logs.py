"""Log lines: for people, for programs, and never without bound."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge.logs import Bounded, JsonLines, TextLines


def record(message: str = "it is %s", *args: object, line: int = 1, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("edge.x", logging.WARNING, "x.py", line, message, args or ("so",), None)
    made.__dict__.update(more)
    return made


def test_a_json_line_has_the_message_and_what_stands_beside_it() -> None:
    line = json.loads(JsonLines().format(record(source="plant", command_id=None, created=1_800_000_000.5)))
    assert line == {
        "time": "2027-01-15T08:00:00.500+00:00",
        "level": "warning",
        "logger": "edge.x",
        "message": "it is so",
        "source": "plant",
        "command_id": None,
    }


def test_a_traceback_stays_on_its_line() -> None:
    made = record("two\nlines %s")
    try:
        int("deep\nbelow")
    except ValueError:
        made.exc_info = sys.exc_info()
    text = JsonLines().format(made)
    assert "\n" not in text
    assert "invalid literal" in json.loads(text)["exception"]


def test_one_place_tells_so_much_a_minute_and_then_how_much_it_did_not() -> None:
    now_s = 0.0
    bounded = Bounded(lambda: now_s)
    assert sum(bounded.filter(record()) for _ in range(1000)) == 30
    assert bounded.filter(record(line=2)), "another place has its own"
    assert bounded.filter(record(source="gate")), "and so has another source"
    now_s = 61.0
    first, second = record("a %s"), record("b %s")
    assert bounded.filter(first)
    assert bounded.filter(second)
    assert first.getMessage() == "a so (970 more like this were not told)"
    assert second.getMessage() == "b so"


def test_a_percent_sign_in_what_was_told_does_no_harm() -> None:
    now_s = 0.0
    bounded = Bounded(lambda: now_s)
    for _ in range(40):
        bounded.filter(record("%s", "100 % of %d"))
    now_s = 61.0
    told = record("%s", "100 % of %d")
    assert bounded.filter(told)
    assert told.getMessage() == "100 % of %d (10 more like this were not told)"


def test_the_command_line_logs_as_it_is_asked(tmp_path: Path) -> None:
    """`run` with a state directory that cannot be used: one line of error, and no log line that is no JSON."""
    config = Path("edge/examples/edge.yaml").read_text().replace("/var/lib/headwater/edge-1", "/proc/nothing")
    path = tmp_path / "edge.yaml"
    path.write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "--log-format", "json", "run", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "state_dir /proc/nothing cannot be used" in done.stderr
    assert all(json.loads(line)["level"] for line in done.stderr.splitlines() if line.startswith("{"))


def test_a_line_for_people_commands_no_terminal_and_forges_no_other() -> None:
    record = logging.makeLogRecord({"msg": "plant: %s", "args": ("\x1b[2Jdown\n2026 INFO edge: all is well",)})
    assert TextLines("%(message)s").format(record) == "plant: ?[2Jdown\n    2026 INFO edge: all is well"


def test_sources_that_come_and_go_take_no_memory_for_good() -> None:
    now_s = 0.0
    bounded = Bounded(lambda: now_s)
    for n in range(5000):
        now_s += 1
        bounded.filter(logging.makeLogRecord({"source": f"s{n}"}))
    assert len(bounded._seen) < 1100
