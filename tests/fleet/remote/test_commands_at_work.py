"""An operator commands an agent and reads its log, by mutual TLS and under the fleet's own ACL."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def test_an_operator_commands_a_node(said: Any, agent: Any, fleet: Any, valve: Any) -> None:
    home = ("--home", str(fleet.home.path), "--wait", "20")
    code, out, err = said("command", "pump-1", "rebirth", *home)
    assert (code, err) == (0, "waiting for a birth of pump-1, up to 20 s\n"), agent.log.read_text()
    assert out.startswith("rebirth plant/pump-1: done after ")
    code, out, _ = said("command", "plant/pump-1", "reload", *home, "--json")
    told = json.loads(out)
    assert (code, told["state"], told["command"]) == (0, "done", "Node Control/Reload")
    assert f"(id {told['command_id']}): True is done" in agent.log.read_text()
    code, out, _ = said("command", "pump-1", "write", "line", "setpoint", "42", "--yes", *home)
    assert code == 0
    assert out.startswith("write 42 (INT64) to setpoint of line at plant/pump-1: done after ")
    assert ": 42 (id " in out
    assert valve.held == 42
    for words, reason in (
        (("line", "setpoint", "101"), "101"),
        (("line", "nothing", "1"), "there is no such metric"),
        (("elsewhere", "setpoint", "1"), "there is no device elsewhere"),
        (("line", "setpoint", "half"), "'half' is no UINT16"),
    ):
        code, out, err = said("command", "pump-1", "write", *words, "--yes", *home)
        assert (code, out) == (1, "")
        assert ": refused after " in err
        assert reason in err
    assert valve.held == 42


def test_an_operator_reads_a_nodes_log(said: Any, agent: Any, fleet: Any) -> None:
    home = ("--home", str(fleet.home.path), "--wait", "20")
    code, out, err = said("logs", "pump-1", *home)
    assert (code, err) == (0, ""), agent.log.read_text()
    written = agent.log.read_text().splitlines()
    told = [line.split(" ", 3)[3].strip() for line in out.splitlines()]
    assert told[0].startswith("edge."), out
    assert all(any(line in each for each in written) for line in told)
    assert said("command", "pump-1", "write", "line", "nothing", "1", "--yes", *home)[0] == 1
    code, out, _ = said("logs", "pump-1", "--level", "warning", "--json", *home)
    lines = [json.loads(line) for line in out.splitlines()]
    assert any("there is no such metric" in line["message"] for line in lines)
    assert {line["level"] for line in lines} == {"warning"}


def test_a_log_is_followed_over_a_restart_of_the_agent(said: Any, agent: Any, fleet: Any) -> None:
    command = [sys.executable, "-W", "error", "-m", "fleet", "logs", "pump-1", "--follow", "--home", fleet.home.path]
    following = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    guard = threading.Timer(90, following.kill)
    guard.start()
    try:
        assert following.stdout is not None
        until(following, " edge.")
        said("command", "pump-1", "write", "line", "nothing", "1", "--yes", "--home", str(fleet.home.path))
        until(following, "there is no such metric")
        agent.restart()
        until(following, "-- the agent was started anew --")
    finally:
        guard.cancel()
        following.kill()
        following.communicate()


def until(following: subprocess.Popen[str], text: str) -> None:
    assert following.stdout is not None
    seen = []
    for line in following.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"no {text!r} in {seen}")
