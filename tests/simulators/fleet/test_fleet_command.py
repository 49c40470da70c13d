"""`python -m simulators fleet`, as somebody types it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from simulators.__main__ import main
from simulators.ledger import Header, read_ledger
from stack import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.simulators.fleet.conftest import Host

DEADLINE_S = 30


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """`main` sets up logging for its process, which here is that of all tests."""
    handlers = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = handlers


def run(host: Host, *words: str) -> int:
    broker = f"127.0.0.1:{host.port}"
    return main(["fleet", "--broker", broker, "--group", host.group, "--duration", "0.5", *words])


def test_a_fleet_for_a_moment(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "fleet.jsonl"
    assert run(host, "--nodes", "3", "--rate", "300", "--seed", "4", "--ledger", str(ledger), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["connections"], told["births"], told["kept"], told["unfinished"]) == (3, 3, 0, [])
    # 300 readings a second of 3 nodes with 10 metrics each: ten samples a second from each.
    assert 9 <= told["samples"] + told["samples_skipped"] <= 18
    header = next(iter(read_ledger(ledger)))
    assert isinstance(header, Header)
    assert (header.seed, header.extra) == (4, {"group": host.group, "device": "line"})


def test_what_is_not_durable_is_a_failure(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.is_durable = False
    assert run(host, "--nodes", "2", "--drain", "0.2") == 1
    captured = capsys.readouterr()
    assert "of 2 nodes are not durable: sim-0000, sim-0001" in captured.err
    assert "durable: 0\n" in captured.out


def test_a_dry_run_says_who_would_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "fleet.yaml"
    scenario.write_text(yaml.safe_dump({"nodes": 4, "slow": {"share": 1, "pause_s": 2}, "broker": {"port": 1}}))
    words = ["fleet", "--scenario", str(scenario), "--dry-run"]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[1] == "sim-0001  site 1  slow (2 s)"
    assert main([*words, "--json", "--nodes", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [node["name"] for node in told["nodes"]] == ["sim-0000", "sim-0001"]
    assert told["readings_per_s"] == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "{tmp}/none.yaml"], "none.yaml: cannot be read"),
        (["--nodes", "0"], "fleet: nodes: found 0"),
        (["--broker", "localhost"], "--broker: found 'localhost', allowed: HOST:PORT"),
        (["--rate", "-1"], "--rate: found -1: allowed is more than 0"),
        (["--rate", "1e9"], "--rate: interval_s: found"),
        (["--cert", "a.pem"], "fleet: broker.tls: found"),
        (["--ca", "{tmp}/none.pem"], "none.pem: cannot be used"),
        (["--cert", "{tmp}/{node}.pem", "--key", "{tmp}/{node}.key"], "sim-0000.pem"),
        (["--client-id", "one"], "fleet: broker: found"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "--duration", "0.1", *(word.replace("{tmp}", str(tmp_path)) for word in words)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_without_a_broker_it_ends_when_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fleet", "--broker", f"127.0.0.1:{free_port()}", "--nodes", "1", "--drain", "60"]
    ledger = tmp_path / "fleet.jsonl"
    twice = threading.Thread(target=interrupt_twice, args=(ledger.exists,))
    twice.start()
    began_s = time.monotonic()
    assert main([*words, "--ledger", str(ledger)]) == 1
    assert time.monotonic() - began_s < DEADLINE_S
    twice.join()
    assert "batches of 1 nodes are not durable: sim-0000" in capsys.readouterr().err


def interrupt_twice(may_begin: Callable[[], bool]) -> None:
    while not may_begin():
        time.sleep(0.02)
    for _ in range(2):
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_ledger_is_one_runs_alone(host: Host, tmp_path: Path) -> None:
    ledger = tmp_path / "fleet.jsonl"
    words = [sys.executable, "-m", "simulators", "fleet", "--broker", f"127.0.0.1:{host.port}", "--ledger", str(ledger)]
    with subprocess.Popen([*words, "--group", host.group, "--nodes", "1"], stdout=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + DEADLINE_S
        while not (ledger.exists() and ledger.stat().st_size):  # locked before it is written
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert run(host, "--ledger", str(ledger)) == 1
        first.terminate()
        assert first.wait(DEADLINE_S) == 0
