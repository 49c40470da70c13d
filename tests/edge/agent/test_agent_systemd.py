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

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def listening(path: Path) -> Iterator[list[str]]:
    """What is said on a datagram socket, as systemd has one, line by line."""
    heard: list[str] = []
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                heard.extend(listener.recv(4096).decode().splitlines())

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(0.05)
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            ended.set()
            thread.join()


def test_systemd_hears_how_the_agent_fares_and_sighup_reads_the_file_again(
    start_agent: Callable[..., Any],
    tmp_path: Path,
    wait_for: Any,
) -> None:
    with listening(tmp_path / "notify") as heard:

        def hears(word: str) -> bool:
            return any(line.startswith(word) for line in list(heard))

        systemd = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        agent = start_agent(systemd, drain_timeout_s=0)
        wait_for(lambda: hears("READY=1"), "ready")
        wait_for(lambda: hears("STATUS=1 of 1 sources ok"), "what it does")
        wait_for(lambda: hears("WATCHDOG=1"), "the watchdog is fed")
        heard.clear()
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
        wait_for(lambda: hears("READY=1"), "it is ready again")
        assert hears("RELOADING=1")
        assert hears("MONOTONIC_USEC=")
        with urllib.request.urlopen(f"http://127.0.0.1:{agent.health_port}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert b'headwater_edge_source_up{source="weather"} 1\n' in answer.read()
        done = subprocess.run(
            [sys.executable, "-m", "edge", "status", "--url", f"http://127.0.0.1:{agent.health_port}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, "no bridge takes its births"
        assert re.search(r"^weather +ok ", done.stdout, re.MULTILINE), done.stdout
        assert agent.end() == 0
        wait_for(lambda: hears("STOPPING=1"), "the end")
