"""A model in the whole agent: fed by a Modbus source, its results through spool and broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bench.edge.plant import Plant
from contract.config import ConfigError, parse_config
from contract.manifest import VERSION
from contract.topics import MessageType
from edge.config import AgentConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stack import Mosquitto

GROUP = "models"
# What the plant's registers hold.
POINTS = {"state": 7, "measure": 66.0}


@pytest.fixture
def plant() -> Iterator[Plant]:
    with Plant() as plant:
        yield plant


def document(state_dir: Path, broker_port: int, plant_port: int, directory: Path) -> dict[str, Any]:
    points = [
        {"name": "state", "table": "holding", "address": 7, "datatype": "uint16"},
        {"name": "measure", "table": "holding", "address": 66, "datatype": "float32"},
    ]
    line = {"type": "modbus", "name": "plant", "interval_s": 0.05, "host": "127.0.0.1", "port": plant_port}
    inputs = {"a": "plant/state", "b": "plant/measure"}
    return {
        "group": GROUP,
        "node": "edge-1",
        "state_dir": str(state_dir),
        "clock": {"wait_s": 0},
        "mqtt": {"host": "127.0.0.1", "port": broker_port},
        "health": {"port": 0},
        "sources": [line | {"units": [{"unit_id": 1, "points": points}]}],
        "models": [{"name": "echo", "directory": str(directory), "inputs": inputs, "grace_s": 0.2}],
        "inference": {"watch_s": 0.1},
    }


def health(log: Path) -> dict[str, Any]:
    page = next(word for word in log.read_text().split() if word.endswith("/healthz"))
    with urllib.request.urlopen(page, timeout=5) as answer:
        report: dict[str, Any] = json.load(answer)
    return report


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_results_arrive_as_a_device_of_their_own(
    broker: Mosquitto,
    plant: Plant,
    new_bridge: Callable[..., Any],
    put_model: Callable[..., Path],
    tmp_path: Path,
    wait_for: Any,
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    config, log = tmp_path / "edge.yaml", tmp_path / "log"
    whole = document(tmp_path / "state", broker.port, plant.port, put_model(tmp_path / "m"))
    config.write_text(yaml.safe_dump(whole))

    def told() -> list[dict[str, Any]]:
        messages = [m for m in bridge.of_type(MessageType.DDATA) if m.topic.device == "echo"]
        return [{metric.name: metric.value for metric in message.payload.metrics} for message in messages]

    with log.open("wb") as file:
        agent = subprocess.Popen([sys.executable, "-m", "edge", "run", str(config)], stderr=file)
    try:
        wait_for(lambda: any("y/0.8s/p50" in each for each in told()), "results")
        result = next(each for each in told() if "y/0.8s/p50" in each)
        assert [result[f"y/{step / 10:g}s/p50"] for step in range(1, 9)] == [7, 66] * 4
        assert result[VERSION] == "1.0.0"
        births = [m for m in bridge.of_type(MessageType.DBIRTH) if m.topic.device == "echo"]
        assert {metric.name for metric in births[0].payload.metrics} >= set(result)

        put_model(tmp_path / "m", version="2.0.0")
        wait_for(lambda: any(each.get(VERSION) == "2.0.0" for each in told()), "results of the next version")

        report = health(log)["models"]
        assert report["models"]["echo"]["state"] == "ok"
        pid = report["process"]["pid"]
        assert is_alive(pid)

        config.write_text(yaml.safe_dump(whole | {"models": []}))
        agent.send_signal(signal.SIGHUP)
        wait_for(lambda: bridge.of_type(MessageType.DDEATH), "the model's device goes")
        wait_for(lambda: not is_alive(pid), "its process goes")
        config.write_text(yaml.safe_dump(whole))
        agent.send_signal(signal.SIGHUP)
        wait_for(lambda: health(log)["models"]["models"].get("echo", {}).get("state") == "ok", "it is served again")

        pid = health(log)["models"]["process"]["pid"]
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait()
        wait_for(lambda: not is_alive(pid), "its process dies with the agent")
    finally:
        agent.kill()
        agent.wait()


def test_without_its_runtime_the_agent_goes_on(
    broker: Mosquitto,
    plant: Plant,
    new_bridge: Callable[..., Any],
    put_model: Callable[..., Path],
    tmp_path: Path,
    wait_for: Any,
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    config, log = tmp_path / "edge.yaml", tmp_path / "log"
    config.write_text(yaml.safe_dump(document(tmp_path / "state", broker.port, plant.port, put_model(tmp_path / "m"))))
    # A package of that name which cannot be imported, before the real one.
    hidden = tmp_path / "hidden" / "tflite_runtime"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError('there is no runtime')")
    with log.open("wb") as file:
        agent = subprocess.Popen(
            [sys.executable, "-m", "edge", "run", str(config)],
            stderr=file,
            env=os.environ | {"PYTHONPATH": str(hidden.parent)},
        )
    try:
        wait_for(lambda: "refused" in log.read_text(), "the refusal")
        count = len(bridge.of_type(MessageType.DDATA))
        wait_for(lambda: len(bridge.of_type(MessageType.DDATA)) >= count + 10, "readings all the same")
        assert "there is no runtime" in health(log)["models"]["models"]["echo"]["refused"]
        assert log.read_text().count("there is no runtime") == 1
        agent.terminate()
        assert agent.wait(30) == 0
    finally:
        agent.kill()
        agent.wait()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"name": "plant"}, "models and sources must have different names, both have plant"),
        ({"inputs": {"a": "plant/none"}}, "model echo: input a: there is no plant/none"),
        ({"inputs": {"a": "other/state"}}, "model echo: input a: there is no other/state"),
        ({"inputs": {"a": "plant"}}, "models.0.inputs.a: found 'plant'"),
        ({"inputs": {}}, "models.0.inputs: found {}"),
        ({"name": "a/b"}, "models.0.name: found 'a/b'"),
        ({"every_s": 0}, "models.0.every_s: found 0"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_said_in_a_line(model: dict[str, Any], said: str) -> None:
    whole = document(Path("state"), 1, 1, Path("m"))
    whole["models"] = [whole["models"][0] | model]
    with pytest.raises(ConfigError) as caught:
        parse_config(whole, AgentConfig, "edge.yaml")
    (line,) = str(caught.value).splitlines()
    assert said in line


def test_two_models_of_one_name_are_refused() -> None:
    whole = document(Path("state"), 1, 1, Path("m"))
    whole["models"] *= 2
    with pytest.raises(ConfigError, match="model names must be unique, given more than once: echo"):
        parse_config(whole, AgentConfig, "edge.yaml")
