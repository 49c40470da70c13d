"""The whole agent as systemd has it: what it tells, and what it is told."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Systemd:
    """Listens on a datagram socket, as systemd does, to what a unit tells."""

    def __init__(self, path: Path) -> None:
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}
        self.heard: list[str] = []
        self._ended = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(str(path))
        self._listener.settimeout(0.05)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                self.heard.extend(self._listener.recv(4096).decode().splitlines())

    def hears(self, word: str) -> bool:
        return any(line.startswith(word) for line in list(self.heard))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listening = Systemd(tmp_path / "notify")
    yield listening
    listening.close()


def test_systemd_hears_how_the_agent_fares(start_agent: Callable[..., Any], systemd: Systemd, wait_for: Any) -> None:
    agent = start_agent(systemd.environment, drain_timeout_s=0)
    wait_for(lambda: systemd.hears("READY=1"), "ready")
    wait_for(lambda: systemd.hears("STATUS=1 of 1 sources ok"), "what it does")
    wait_for(lambda: systemd.hears("WATCHDOG=1"), "the watchdog is fed")
    with urllib.request.urlopen(f"http://127.0.0.1:{agent.health_port}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b'headwater_edge_source_up{source="weather"} 1\n' in answer.read()
    command = [sys.executable, "-m", "edge", "status", "--url", f"http://127.0.0.1:{agent.health_port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "no bridge takes its births"
    assert re.search(r"^weather +ok ", done.stdout, re.MULTILINE), done.stdout
    assert agent.end() == 0
    wait_for(lambda: systemd.hears("STOPPING=1"), "the end")


def test_sighup_reads_the_file_again_and_systemd_hears_of_it(
    start_agent: Callable[..., Any], systemd: Systemd, wait_for: Any
) -> None:
    agent = start_agent(systemd.environment, drain_timeout_s=0)
    wait_for(lambda: systemd.hears("READY=1"), "ready")
    systemd.heard.clear()
    document = yaml.safe_load(agent.config_path.read_text())
    agent.config_path.write_text(yaml.safe_dump(document | {"sources": []}))
    agent.send(signal.SIGHUP)
    wait_for(lambda: "refused, the old one goes on" in agent.log(), "the wrong one is refused")
    other = document["sources"][0] | {"name": "other"}
    document["mqtt"]["window"] = 7
    agent.config_path.write_text(yaml.safe_dump(document | {"sources": [*document["sources"], other]}))
    agent.send(signal.SIGHUP)
    wait_for(lambda: "other" in agent.health()["sources"], "the new source")
    wait_for(lambda: "2 sources; restart needed for: mqtt" in agent.log(), "what is left undone is told")
    wait_for(lambda: systemd.hears("READY=1"), "it is ready again")
    assert systemd.hears("RELOADING=1")
    assert systemd.hears("MONOTONIC_USEC=")
