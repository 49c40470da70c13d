"""The whole agent as a process, with a real HTTP source and a real broker."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from pathlib import Path

    from stack import Mosquitto

GROUP = "agents"
# `python -m edge run CONFIG`, with its log in a file.
RUN = """
import os, sys
from edge.__main__ import main
os.environ.update({environment!r})
os.dup2(os.open({log!r}, os.O_WRONLY | os.O_CREAT), 2)
sys.exit(main(["run", {config!r}]))
"""


@dataclass
class AgentProcess:
    config_path: Path
    log_path: Path
    process: ForkServerProcess

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

    def send(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int | None:
        self.send(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code; None where it has not ended."""
        self.process.join(timeout_s)
        return self.process.exitcode


@pytest.fixture(scope="session")
def warm() -> ForkServerContext:
    """Makes processes that have all imports behind them, which are most of an agent's first second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["edge.__main__", "edge.agent", "edge.sources.rest.source"])
    return context


@pytest.fixture
def start_agent(
    broker: Mosquitto, weather_api: tuple[Any, str], tmp_path: Path, wait_for: Any, warm: ForkServerContext
) -> Iterator[Callable[..., AgentProcess]]:
    agents: list[AgentProcess] = []

    def start(environment: dict[str, str] | None = None, **more: Any) -> AgentProcess:
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
                    "interval_s": 0.05,
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
        log_path.touch()
        code = RUN.format(environment=environment or {}, log=str(log_path), config=str(path))
        process = warm.Process(target=exec, args=(code,))
        process.start()
        agent = AgentProcess(path, log_path, process)
        agents.append(agent)
        wait_for(lambda: "health page" in agent.log() or process.exitcode is not None, "the agent runs")
        return agent

    yield start
    for agent in agents:
        agent.process.kill()
        agent.process.join()
