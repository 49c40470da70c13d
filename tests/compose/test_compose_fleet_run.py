"""The fleet's override run for real: its broker's files in the container, and the bridge and the database behind it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.__main__ import main
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/compose.md").read_text().partition("## A fleet")[2].partition("\n## ")[0]
# Nobody of this machine's: who the containers run as has to own the home.
UID = 10007
HEALTHY_S = 300.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home, by the page's commands, that belongs to somebody who is not root."""
    path = tmp_path_factory.mktemp("fleet") / "fleet-home"
    for line in re.findall(r"^\$ python -m fleet ((?:init|host).*)$", PAGE, re.MULTILINE):
        command, *rest = shlex.split(line)
        assert main([command, "--home", str(path), *rest]) == 0
    for each in (path, *path.rglob("*")):
        os.chown(each, UID, UID)
    return path


@pytest.fixture(scope="module")
def fleet(project_of_fleet: Any, home: Path) -> Iterator[Any]:
    project = project_of_fleet({"HEADWATER_FLEET": str(home), "HEADWATER_FLEET_USER": f"{UID}:{UID}"})
    project.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    project.compose("build", "init", "bridge")
    try:
        with project.timed("a fleet's broker and bridge up"):
            project.compose("up", "--detach", "bridge", "timescaledb")
            healthy = wait_until(project.is_settled, timeout_s=HEALTHY_S, poll_s=2.0)
        assert healthy, f"{project.states()}\n{project.compose('logs', '--tail', '20')}"
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "30")


def test_the_bridge_is_at_the_fleets_broker(fleet: Any, home: Path) -> None:
    assert (home / "broker/mosquitto.pid").read_text().strip()
    said = fleet.run(
        "bridge", "python", "-m", "compose.healthy", "http://127.0.0.1:8081/healthz", "mqtt_connected=true"
    )
    assert said.strip() == "ok"
    owners = {path.stat().st_uid for path in (home / "broker").rglob("*")}
    assert owners == {UID}


def test_the_broker_reads_its_files_again_when_the_fleet_says_so(fleet: Any) -> None:
    (told,) = re.findall(r"`reload: \[docker, compose, (.*?)\]`", PAGE)
    fleet.compose(*told.split(", "))
    assert wait_until(lambda: "Reloading config" in fleet.compose("logs", "mosquitto"), timeout_s=60.0, poll_s=1.0)
    assert wait_until(fleet.is_settled, timeout_s=60.0, poll_s=1.0), fleet.states()


def test_the_desk_reaches_the_database_and_nobody_from_outside(fleet: Any) -> None:
    ports = fleet.inspect()["timescaledb-1"]["NetworkSettings"]["Ports"]
    assert [binding["HostIp"] for bindings in ports.values() for binding in bindings or ()] == ["127.0.0.1"]
