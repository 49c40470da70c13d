"""Life and death of servers: ports, directories, logs, and what is left when they or we end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from stack import (
    Command,
    Kafka,
    Mosquitto,
    NotInstalledError,
    PortTakenError,
    Server,
    ServerError,
    StackError,
    Timescale,
    together,
    wait_until,
)
from stack import install as stack_install
from stack import mosquitto as stack_mosquitto
from stack.process import run_to_end
from stack.server import Cluster, prune

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS: list[type[Server]] = [Mosquitto, Kafka, Timescale]


@pytest.fixture(params=SERVERS, ids=lambda kind: kind.__name__)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param() as running:
        yield running


def test_stopping_leaves_no_process_and_no_directory(server: Server) -> None:
    assert server.pid is not None
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    server.close()
    assert not any(process.is_running() for process in family)
    assert not server.directory.exists()


@pytest.mark.parametrize("server", [Mosquitto, Timescale], indirect=True)
def test_a_suspended_server_is_stopped_all_the_same(server: Server) -> None:
    server.suspend()
    server.stop()
    assert not server.running


def test_two_of_a_kind_run_side_by_side() -> None:
    servers = [Mosquitto(), Mosquitto(), Timescale(shared_buffers="64MB"), Timescale(shared_buffers="64MB")]
    with together(*servers):
        assert len({server.port for server in servers}) == len(servers)
        assert all(server.running for server in servers)
    assert not any(server.running for server in servers)


def test_when_one_of_several_fails_the_others_end_and_the_logs_stay(tmp_path: Path) -> None:
    good = Mosquitto(directory=tmp_path / "good")
    bad = Mosquitto(extra=["no_such_setting true"])
    with pytest.raises(ServerError), together(good, bad):
        pytest.fail("not all of them started")
    assert not good.running
    assert "no_such_setting" in bad.log_path.read_text()
    bad.remove()


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__)
def test_a_taken_port_is_told_as_such(kind: type[Server], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"127.0.0.1:{port}"):
            kind(port=port, directory=tmp_path).start()


def test_a_missing_install_names_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stack_mosquitto, "MOSQUITTO", tmp_path / "absent")
    with pytest.raises(NotInstalledError, match=r"Mosquitto is not installed.*make setup"):
        Mosquitto(directory=tmp_path).start()
    with pytest.raises(NotInstalledError, match="absent"):
        stack_install.Part("It", tmp_path / "absent").required()


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    broker = Mosquitto(directory=tmp_path, extra=["no_such_setting true"])
    with pytest.raises(ServerError, match=r"(?s)Mosquitto ended with status.*server\.log.*no_such_setting") as caught:
        broker.start()
    assert caught.value.log_path == tmp_path / "server.log"


def test_members_of_a_cluster_come_and_go_together() -> None:
    members = Mosquitto(), Mosquitto()
    with Cluster(*members):
        members[0].kill()
        members[0].start()
        assert all(member.running for member in members)
    assert not any(member.running or member.directory.exists() for member in members)


def test_a_directory_that_cannot_be_had_is_told() -> None:
    with pytest.raises(StackError, match="Mosquitto cannot have its directory /proc/none"):
        Mosquitto(directory=Path("/proc/none")).start()


@pytest.mark.parametrize(("script", "says"), [("echo no; exit 3", r"failed;.*\| no"), ("sleep 9", "failed in 0.2 s")])
def test_a_preparation_that_fails_or_hangs_is_told(script: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=rf"(?s)It {says}"):
        run_to_end("It", Command(["sh", "-c", script]), timeout_s=0.2, failed="failed", log_path=tmp_path / "log")


STARTS_A_BROKER = """
import sys, time
from pathlib import Path
from stack import Mosquitto
with Mosquitto(directory=Path(sys.argv[1])) as broker:
    print(broker.pid, flush=True)
    time.sleep(600)
"""


def is_gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGINT], ids=lambda fatal: fatal.name)
def test_a_server_ends_with_its_parent(fatal: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_A_BROKER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=stack_install.CHECKOUT,
    ) as parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(fatal)
        assert wait_until(lambda: is_gone(broker), timeout_s=10)


def test_directories_of_killed_runs_are_pruned_after_a_while(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    long_ago = time.time() - 7200
    kept = {
        f"kafka-{os.getpid()}-0a1b2c",
        "servers",
        "demo-of-mine",
        f"kafka-{gone.pid}-fresh0",
        f"kafka-{gone.pid}-ffffff",
    }
    for name in (*kept, f"kafka-{gone.pid}-0a1b2c", f"mosquitto-{gone.pid}-0a1b2c"):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        os.utime(folder.parent, None if name.endswith("ffffff") else (long_ago, long_ago))
    prune(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
