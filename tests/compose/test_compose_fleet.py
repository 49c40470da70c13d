"""A fleet's broker in Compose: what the override changes, and that a home as the page makes it has what that wants."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bridge.config import BridgeConfig
from contract.config import read_config
from fleet.__main__ import main
from stack import ManagedProcess, free_port
from stack.install import MOSQUITTO
from stack.process import Command

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.fleet.yml").read_text())["services"]
PAGE = (ROOT / "docs/compose.md").read_text().partition("## A fleet")[2].partition("\n## ")[0]
COMMANDS = [shlex.split(line)[3:] for line in re.findall(r"^\$ python -m fleet (?:init|host).*$", PAGE, re.MULTILINE)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home, by the page's commands."""
    path = tmp_path_factory.mktemp("fleet") / "fleet-home"
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        assert main([*command[1:2], "--home", str(path), *command[2:]]) == 0
    return path


def mounted(service: str, home: Path) -> dict[str, Path]:
    """Where a service sees folders of the home."""
    found = [volume for volume in SERVICES[service]["volumes"] if isinstance(volume, dict)]
    assert all(volume["source"].startswith("${HEADWATER_FLEET}/") for volume in found)
    assert all(volume["bind"] == {"create_host_path": False} for volume in found)
    named = ((volume["target"], volume["source"]) for volume in found)
    return {
        target.replace("${HEADWATER_FLEET}", str(home)): home / source.partition("/")[2] for target, source in named
    }


def test_it_changes_who_is_at_the_broker_and_lets_the_desk_ask_the_database() -> None:
    assert {name: set(service) for name, service in SERVICES.items()} == {
        "mosquitto": {"user", "command", "volumes", "healthcheck"},
        "bridge": {"user", "group_add", "volumes"},
        "timescaledb": {"ports"},
    }
    assert SERVICES["timescaledb"]["ports"] == ["127.0.0.1:${HEADWATER_DB_PORT:-5432}:5432"]
    assert all("HEADWATER_FLEET_USER:?" in SERVICES[name]["user"] for name in ("mosquitto", "bridge"))


def test_only_the_broker_writes_and_only_to_its_own_files(home: Path) -> None:
    written = [
        volume["source"].partition("/")[2]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, dict) and not volume.get("read_only")
    ]
    assert written == ["broker"]
    assert mounted("mosquitto", home)[f"{home}/broker"] == home / "broker"


@pytest.fixture(scope="module")
def port(home: Path) -> Iterator[int]:
    """The home's broker, as the container starts it, at another port."""
    (_, _, config) = SERVICES["mosquitto"]["command"]
    path = Path(re.sub(r"\$\{HEADWATER_FLEET[^}]*\}", str(home), config))
    port, text = free_port(), path.read_text()
    path.write_text(text.replace("listener 8883", f"listener {port} 127.0.0.1"))
    words = [str(MOSQUITTO), "-c", str(path)]
    process = ManagedProcess("mosquitto", Command(words), log_path=home.parent / "mosquitto.log")
    process.start()
    try:
        process.wait_ready(lambda: "running" in process.log_tail(), timeout_s=60)
        yield port
    finally:
        process.stop()


def welcome(port: int, folder: Path, name: str) -> bytes:
    """The first bytes of the broker, called by a name, to who has the identity in a folder."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        # CONNECT of MQTT 3.1.1: a clean session, keep-alive 5 s, client id "x".
        connection.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x")
        return connection.recv(4)


def test_bridge_and_health_check_come_in_by_the_names_that_they_know(home: Path, port: int, tmp_path: Path) -> None:
    config = read_config(ROOT / "compose/fleet/bridge.yaml", BridgeConfig)
    tls = config.mqtt.tls
    assert tls is not None
    shutil.copytree(mounted("bridge", home)["/fleet"], tmp_path / "fleet")
    named = [tls.ca_file, tls.cert_file, tls.key_file]
    assert [str(path) for path in named] == ["/fleet/ca.pem", "/fleet/cert.pem", "/fleet/key.pem"]
    assert welcome(port, tmp_path / "fleet", config.mqtt.host) == b"\x20\x02\x00\x00"
    check = SERVICES["mosquitto"]["healthcheck"]["test"]
    assert welcome(port, mounted("mosquitto", home)["/health"], check[check.index("-h") + 1]) == b"\x20\x02\x00\x00"


def test_what_the_bridge_does_with_kafka_is_as_without_a_fleet() -> None:
    ours, alone = (read_config(ROOT / f"compose/{name}/bridge.yaml", BridgeConfig) for name in ("fleet", "bridge"))
    assert ours.model_dump(exclude={"mqtt"}) == alone.model_dump(exclude={"mqtt"})
