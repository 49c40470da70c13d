"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import re
import shlex
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge.__main__ import _parser
from edge.agent import _ENDING_S
from edge.config import AgentConfig
from edge.health.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Somebody who listens as systemd does, and where."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        yield listener, path


def test_every_word_arrives_as_systemd_spells_it(systemd: tuple[socket.socket, str]) -> None:
    listener, path = systemd
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"})
    notifier.ready()
    notifier.status("2 sources\nok")
    notifier.alive()
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.stopping()
    assert [listener.recv(4096) for _ in range(3)] == [b"READY=1", b"STATUS=2 sources ok", b"WATCHDOG=1"]
    reloading, monotonic = listener.recv(4096).decode().split("\n")
    assert reloading == "RELOADING=1"
    assert before_us <= int(monotonic.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert listener.recv(4096) == b"STOPPING=1"


def test_an_abstract_socket_is_found() -> None:
    name = f"headwater-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        Notifier(f"@{name}").ready()
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_it_is_ours(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier.from_environment(environment).watchdog_s == watchdog_s


def test_without_a_watchdog_it_is_not_fed(systemd: tuple[socket.socket, str]) -> None:
    listener, path = systemd
    notifier = Notifier(path)
    notifier.alive()
    notifier.ready()
    assert listener.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Notifier.from_environment({}).ready()
    Notifier.from_environment({"NOTIFY_SOCKET": ""}).ready()
    assert caplog.records == []


def test_nobody_who_listens_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ready()
    notifier.ready()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_systemd_that_does_not_read_delays_nobody(
    systemd: tuple[socket.socket, str], caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(systemd[1], watchdog_s=1)
    started_s = time.monotonic()
    for n in range(2000):
        notifier.alive()
        notifier.status(str(n))
    assert time.monotonic() - started_s < 3
    notifier.stopping()
    assert caplog.records == []


def test_a_status_is_told_when_it_changes(systemd: tuple[socket.socket, str]) -> None:
    listener, path = systemd
    notifier = Notifier(path)
    for text in ("a", "a", "b"):
        notifier.status(text)
    assert [listener.recv(100) for _ in range(2)] == [b"STATUS=a", b"STATUS=b"]


def test_the_sample_unit_feeds_its_watchdog_and_stops_in_time() -> None:
    """Its times go with the agent's defaults; a newer key than Bookworm's systemd knows would be told by `verify`."""
    unit = Path("edge/examples/headwater-edge.service").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    defaults = {name: field.default for name, field in AgentConfig.model_fields.items()}
    assert settings["Type"] == "notify"
    assert float(settings["WatchdogSec"]) > 2 * defaults["stuck_after_s"]
    assert float(settings["TimeoutStopSec"]) > 3 * _ENDING_S + defaults["drain_timeout_s"]
    argv = shlex.split(settings["ExecStart"])
    assert argv[1:3] == ["-I", "/usr/lib/headwater/launcher.py"]
    assert _parser().parse_args(argv[argv.index("--") + 1 :]).command == "run"
