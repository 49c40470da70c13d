"""The whole agent as a process, with a real HTTP source and a real broker."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stack import Mosquitto

GROUP = "agents"


@dataclass
class AgentProcess:
    config_path: Path
    log_path: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def health_port(self) -> int:
        found = re.search(r"health page at http://127.0.0.1:(\d+)/healthz", self.log())
        assert found, self.log()
        return int(found[1])

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/healthz", timeout=5) as answer:
            report: dict[str, Any] = json.load(answer)
        return report

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@pytest.fixture
def start_agent(
    broker: Mosquitto, weather_api: tuple[Any, str], tmp_path: Path, wait_for: Any
) -> Iterator[Callable[..., AgentProcess]]:
    agents: list[AgentProcess] = []

    def start(**more: Any) -> AgentProcess:
        document = {
            "group": GROUP,
            "node": "edge-1",
            "state_dir": str(tmp_path / "state"),
            "clock": {"wait_s": 0},
            "mqtt": {"host": "127.0.0.1", "port": broker.port, "resend_after_s": 0.5, "resend_max_s": 2},
            "health": {"port": 0},
            "health_interval_s": 0.5,
            "sources": [
                {
                    "type": "rest",
                    "name": "weather",
                    "preset": "open-meteo",
                    "limits": {},
                    "interval_s": 0.1,
                    "base_url": weather_api[1],
                    "latitude": 48,
                    "longitude": 11,
                    "only": ["temperature_2m"],
                }
            ],
        } | more
        path = tmp_path / "edge.yaml"
        path.write_text(yaml.safe_dump(document))
        log_path = tmp_path / f"agent-{len(agents)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "edge", "run", str(path)], stderr=log)
        agent = AgentProcess(path, log_path, process)
        agents.append(agent)
        wait_for(lambda: "health page" in agent.log() or process.poll() is not None, "the agent runs")
        return agent

    yield start
    for agent in agents:
        agent.process.kill()
        agent.process.wait()
