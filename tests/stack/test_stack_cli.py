"""The command `python -m stack`."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from stack import free_port
from stack.__main__ import main
from stack.install import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path


def test_the_command_line_runs_and_ends_all_three(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "stack", "run", "--mqtt-port", str(port), "--directory", str(tmp_path / "run")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as running:
        assert running.stdout is not None
        lines = [running.stdout.readline() for _ in range(5)]
        assert lines[0].split()[:2] == ["Mosquitto", f"127.0.0.1:{port}"]
        assert "Ctrl-C" in lines[-1]
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert not any(child.is_running() for child in children)


def test_the_command_line_says_what_is_installed() -> None:
    argv = [sys.executable, "-m", "stack", "status"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    for name in ("Mosquitto", "Kafka", "TimescaleDB", "Spark's Kafka connector"):
        assert name in done.stdout
    assert "MISSING" not in done.stdout


@pytest.mark.parametrize(
    "wrong", ["run --mqtt-port 65536", "run --kafka-port 0", "demo --duration 0", "demo --seed -1"]
)
def test_a_wrong_use_is_told_as_such(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong.split())
    assert ended.value.code == 2
    assert "allowed are" in capsys.readouterr().err
