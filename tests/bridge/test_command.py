"""The command line and the configuration."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bridge.__main__ import main, quiet_kafka
from bridge.config import BridgeConfig
from contract.config import ConfigError, parse_config, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

EXAMPLE = Path(__file__).parents[2] / "bridge/examples/bridge.yaml"
LEAST: dict[str, Any] = {"mqtt": {"host": "broker"}, "kafka": {"bootstrap_servers": ["kafka:9092"]}}


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if hasattr(part, "model_fields"):
                yield from models(part)


def test_the_example_is_a_configuration_and_shows_every_key() -> None:
    read_config(EXAMPLE, BridgeConfig)
    text = EXAMPLE.read_text()
    for model in models(BridgeConfig):
        for name, field in model.model_fields.items():
            assert f"{name}:" in text, f"{model.__name__}.{name} is not shown"
            assert field.description, f"{model.__name__}.{name} is not described"


def test_the_least_configuration_takes_every_group() -> None:
    assert parse_config(LEAST, BridgeConfig, "test").groups == ("+",)


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"groups": ["+", "g"]}, "groups"),
        ({"groups": ["g", "g"]}, "groups"),
        ({"groups": ["a/b"]}, "groups"),
        ({"groups": []}, "groups"),
        ({"groups": ["g"], "former_groups": ["h", "g"]}, "\\(top level\\).*g cannot be in groups and"),
        ({"former_groups": ["a/b"]}, "former_groups"),
        ({"host": {"id": "a/b"}}, "host.id"),
        ({"mqtt": {"host": "x", "client_id": "a/b"}}, "\\(top level\\).*host.id is needed"),
        ({"mqtt": {"host": "x", "tls": {"cert_file": "a.pem"}}}, "mqtt.tls"),
        ({"mqtt": {"host": "x", "password_env": "A"}}, "mqtt"),
        ({"mqtt": {"host": "x", "username": "u", "password_env": "A", "password_file": "b"}}, "mqtt"),
        ({"mqtt": {"host": "x", "password": "secret"}}, "mqtt.password"),
        ({"kafka": {"bootstrap_servers": "k:9092"}}, "kafka.bootstrap_servers"),
        ({"kafka": {"bootstrap_servers": ["k"]}}, "kafka.bootstrap_servers.0"),
        ({"kafka": {"bootstrap_servers": ["k:9092"], "security_protocol": "SASL_SSL"}}, "kafka"),
        ({"limits": {"max_in_flight": 70000}}, "limits.max_in_flight"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_place(more: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=f"test: {where}"):
        parse_config({**LEAST, **more}, BridgeConfig, "test")


def check(tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    path = tmp_path / "bridge.yaml"
    path.write_text(yaml.safe_dump(document))
    status = main(["check", str(path)])
    return status, capsys.readouterr().err


def test_check_says_what_is_missing_from_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {**LEAST, "mqtt": {"host": "x", "username": "u", "password_env": "HEADWATER_TEST_PASSWORD"}}
    status, errors = check(tmp_path, document, capsys)
    assert (status, "HEADWATER_TEST_PASSWORD" in errors) == (2, True)
    monkeypatch.setenv("HEADWATER_TEST_PASSWORD", "secret")
    assert check(tmp_path, document, capsys) == (0, "")
    status, errors = check(tmp_path, {**LEAST, "mqtt": {"host": "x", "tls": {"ca_file": "/nowhere.pem"}}}, capsys)
    assert (status, "/nowhere.pem" in errors) == (2, True)


def test_a_password_file_gives_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\nnot this\n")
    mqtt = {"host": "x", "username": "u", "password_file": str(tmp_path / "password")}
    assert parse_config({**LEAST, "mqtt": mqtt}, BridgeConfig, "test").mqtt.password() == "secret"


def test_a_wrong_configuration_ends_the_command_with_2_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bridge.yaml"
    path.write_text("mqtt: {host: x}\n")
    command = [sys.executable, "-m", "bridge", "run", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"{path}: kafka: is missing; it is required\n"


def test_a_taken_health_port_ends_the_command_with_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "bridge.yaml"
        path.write_text(yaml.safe_dump({**LEAST, "health": {"port": port}}))
        command = [sys.executable, "-m", "bridge", "run", str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.returncode == 1
    assert f"health.port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_of_kafka_python_only_faults_are_told(caplog: pytest.LogCaptureFixture) -> None:
    names = ("kafka", "kafka.producer.sender", "kafka.future")
    before = {name: (logging.getLogger(name).level, [*logging.getLogger(name).filters]) for name in names}
    try:
        quiet_kafka()
        sender = logging.getLogger("kafka.producer.sender")
        logging.getLogger("kafka.conn").error("cannot be reached")
        sender.error("cannot be reached")
        sender.error("a fault", exc_info=ValueError("no"))
    finally:
        for name, (level, filters) in before.items():
            logging.getLogger(name).setLevel(level)
            logging.getLogger(name).filters[:] = filters
    assert caplog.messages == ["a fault"]
