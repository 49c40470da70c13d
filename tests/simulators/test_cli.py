from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pymodbus.client import ModbusTcpClient

from contract.config import read_config
from simulators.__main__ import main
from simulators.ledger import Header, Incident, Served, read_ledger
from simulators.plant import UNITS
from simulators.plant.register_map import POINTS
from simulators.scenario import Scenario
from simulators.serve import where_it_was

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE_S = 30


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    simulators = [{"type": "plant", "name": "plant"}, {"type": "plant", "name": "spare"}]
    path.write_text(yaml.safe_dump({"seed": 3, "ledger_dir": str(tmp_path / "ledgers"), "simulators": simulators}))
    return path


@contextmanager
def serving(scenario: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    addresses = scenario.with_name("addresses.json")
    command = [sys.executable, "-m", "simulators", "serve", str(scenario), "--addresses", str(addresses), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not addresses.exists():
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process, json.loads(addresses.read_text())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_runs_until_told_to_stop(scenario: Path, number: signal.Signals) -> None:
    with serving(scenario) as (process, addresses):
        assert addresses.keys() == {"plant", "spare"}
        with ModbusTcpClient(addresses["plant"]["host"], port=addresses["plant"]["port"]) as client:
            assert client.read_coils(0, count=1, device_id=1).bits[0]
            # The client is still there: that must not keep the process.
            process.send_signal(number)
            assert process.wait(DEADLINE_S) == 0
        assert not scenario.with_name("addresses.json").exists()
        log = process.stderr.read() if process.stderr else ""
        assert f"plant listens: host 127.0.0.1, port {addresses['plant']['port']}" in log
        assert "Traceback" not in log
    header, served = read_ledger(scenario.parent / "ledgers" / "plant.jsonl")
    assert isinstance(header, Header)
    assert isinstance(served, Served)
    assert header.seed == 3
    assert served.values == {"intake/valve_command": True}


def test_serve_only_some(scenario: Path) -> None:
    with serving(scenario, "--only", "spare") as (_, addresses):
        assert addresses.keys() == {"spare"}
    assert not (scenario.parent / "ledgers" / "plant.jsonl").exists()


def test_a_fault_by_hand(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(scenario) as (_, addresses):
        path = str(scenario.with_name("addresses.json"))
        assert main(["fault", path, "plant", "busy", "unit_id=1", "duration_s=60"]) == 0
        assert capsys.readouterr().out == "busy unit 1\n"
        assert main(["fault", path, "plant", "flood"]) == 1
        assert "flood" in capsys.readouterr().err
        assert main(["fault", path, "nobody", "busy"]) == 1
        assert "nothing called 'nobody' runs: allowed are plant, spare" in capsys.readouterr().err
        ledger = scenario.parent / "ledgers" / "plant.jsonl"
        deadline = time.monotonic() + DEADLINE_S
        while not any(isinstance(entry, Incident) for entry in read_ledger(ledger)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with ModbusTcpClient(addresses["plant"]["host"], port=addresses["plant"]["port"]) as client:
            assert client.read_coils(0, count=1, device_id=1).exception_code == 6
        capsys.readouterr()
        assert main(["counts", path, "plant"]) == 0
        assert json.loads(capsys.readouterr().out)["by_unit"] == {"1": 1}


def test_points_are_those_of_an_edge_config(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["points", str(scenario), "plant"]) == 0
    (units,) = yaml.safe_load(capsys.readouterr().out).values()
    assert [unit["unit_id"] for unit in units] == list(UNITS)
    points = [point for unit in units for point in unit["points"]]
    assert {point["name"] for point in points} == POINTS.keys()
    assert points == [point.to_config() for unit in UNITS.values() for point in unit]
    allowed = {"name", "table", "address", "datatype", "byte_order", "word_order", "length", "bit", "scale", "offset"}
    assert {key for point in points for key in point} <= allowed | {"unit", "description"}


def test_points_of_some_units(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["points", str(scenario), "plant", "--unit", "2", "--unit", "4"]) == 0
    (units,) = yaml.safe_load(capsys.readouterr().out).values()
    assert [unit["unit_id"] for unit in units] == [2, 4]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["serve", "{tmp}/none.yaml"], 2, "none.yaml: cannot be read"),
        (["serve", "{tmp}/scenario.yaml", "--only", "nobody"], 1, "allowed are plant, spare"),
        (["points", "{tmp}/scenario.yaml", "nobody"], 1, "allowed are plant, spare"),
        (["points", "{tmp}/scenario.yaml", "plant", "--unit", "9"], 2, "--unit: found 9: allowed are 1, 2, 3, 4"),
        (["counts", "{tmp}/none.json", "plant"], 1, "none.json: cannot be read: No such file"),
        (["counts", "{tmp}/some.json", "plant"], 1, "some.json: nothing called 'plant' runs: allowed are shop"),
        (["counts", "{tmp}/some.json", "shop"], 1, "only a plant and a bus have a control port"),
        (["fault", "{tmp}/some.json", "shop", "silent", "duration_s=["], 2, "found 'duration_s=[', allowed: KEY=VALUE"),
        (["fault", "{tmp}/some.json", "shop", "silent", "duration_s"], 2, "found 'duration_s', allowed: KEY=VALUE"),
        (["reconcile", "--targets", "{tmp}/none.yaml"], 2, "none.yaml: cannot be read"),
        (["reconcile", "--targets", "{tmp}/targets.yaml"], 2, "HEADWATER_DSN: is not set"),
        (["reconcile", "--targets", "{tmp}/wrong.yaml"], 2, "wrong.yaml: 0.ledger: is missing"),
        (["fault", "{tmp}/none.json", "plant", "busy"], 1, "none.json: cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    scenario: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HEADWATER_DSN", raising=False)
    target = {"source": "a", "group": "g", "node": "n", "device": "d"}
    scenario.with_name("targets.yaml").write_text(yaml.safe_dump([{**target, "ledger": "a.jsonl"}]))
    scenario.with_name("some.json").write_text(json.dumps({"shop": {"url": "http://127.0.0.1:1"}}))
    scenario.with_name("wrong.yaml").write_text(yaml.safe_dump([target]))
    assert main([argument.replace("{tmp}", str(scenario.parent)) for argument in arguments]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_after_a_kill_it_listens_where_it_did(scenario: Path) -> None:
    found = yaml.safe_load(scenario.read_text())
    found["simulators"][1] = {"type": "camera", "name": "gate"}
    scenario.write_text(yaml.safe_dump(found))
    with serving(scenario) as (process, before):
        process.kill()
        process.wait(DEADLINE_S)
    addresses = scenario.with_name("addresses.json")
    left = addresses.stat().st_mtime_ns
    command = [sys.executable, "-m", "simulators", "serve", str(scenario), "--addresses", str(addresses)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as again:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while addresses.stat().st_mtime_ns == left:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            now = json.loads(addresses.read_text())
            assert (now["gate"], now["plant"]["port"]) == (before["gate"], before["plant"]["port"])
        finally:
            again.terminate()
    assert not addresses.exists()
    addresses.write_text("{")  # whatever is in it, a simulator starts
    with socket.create_server(("127.0.0.1", before["plant"]["port"])):
        taken = scenario.with_name("taken.json")
        taken.write_text(json.dumps(before))
        plant, _ = read_config(scenario, Scenario).simulators
        assert where_it_was(plant, taken).port == 0
        assert where_it_was(plant, addresses) is plant


def test_a_port_that_is_taken_is_told(scenario: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = yaml.safe_load(scenario.read_text())
        found["simulators"][1]["port"] = taken.getsockname()[1]
        scenario.write_text(yaml.safe_dump(found))
        done = subprocess.run(
            [sys.executable, "-m", "simulators", "serve", str(scenario)],
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
    assert done.returncode == 1
    assert "spare: cannot start" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    for command in ("serve", "points", "fault", "reconcile", "examples:"):
        assert command in told


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["serve"], ["reconcile"], ["points", "a.yaml", "plant", "--unit", "x"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
