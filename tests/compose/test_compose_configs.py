"""The configurations that the compose files mount: read by the roles' own models, and by each other's words."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bridge.config import BridgeConfig
from compose.init.issue import BRIDGES, NODES
from contract.config import read_config
from edge.config import AgentConfig
from simulators.__main__ import main as simulators
from simulators.reconcile_targets import Targets
from simulators.scenario import Scenario
from stream.config import StreamConfig
from stream.resend import client_options

if TYPE_CHECKING:
    from pydantic import BaseModel

COMPOSE = Path(__file__).parents[2] / "compose"
SCENARIO = COMPOSE / "simulators/scenario.yaml"
MODELS: dict[str, type[BaseModel]] = {
    "bridge/bridge.yaml": BridgeConfig,
    "cluster/bridge.yaml": BridgeConfig,
    "cluster/bridge-2.yaml": BridgeConfig,
    "fleet/bridge.yaml": BridgeConfig,
    "stream/stream.yaml": StreamConfig,
    "cluster/stream.yaml": StreamConfig,
    "simulators/scenario.yaml": Scenario,
    "simulators/targets.yaml": Targets,
    "cluster/targets.yaml": Targets,
    **{f"edge/edge-{number}.yaml": AgentConfig for number in (1, 2, 3)},
    "cluster/edge-3.yaml": AgentConfig,
}


def document(name: str) -> Any:
    return yaml.safe_load((COMPOSE / name).read_text())


@pytest.mark.parametrize(("name", "model"), MODELS.items())
def test_a_configuration_is_right(name: str, model: type[BaseModel]) -> None:
    read_config(COMPOSE / name, model)


def test_no_configuration_is_left_out() -> None:
    assert {str(path.relative_to(COMPOSE)) for path in COMPOSE.glob("*/*.yaml")} == set(MODELS)


@pytest.mark.parametrize(("number", "source", "units"), [(1, "line-a", (1, 2)), (2, "line-b", (3, 4))])
def test_agents_poll_the_points_that_the_plant_has(
    number: int, source: str, units: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [word for unit in units for word in ("--unit", str(unit))]
    assert simulators(["points", str(SCENARIO), "plant", *chosen]) == 0
    printed = yaml.safe_load(textwrap.dedent(capsys.readouterr().out))
    (polled,) = [one for one in document(f"edge/edge-{number}.yaml")["sources"] if one["name"] == source]
    assert polled["units"] == printed["units"]
    (target,) = [one for one in document("simulators/targets.yaml") if one["source"] == source]
    assert target["metrics"] == [point["name"] for unit in printed["units"] for point in unit["points"]]


def test_agents_find_the_simulators_where_they_listen() -> None:
    ports = {one["name"]: one["port"] for one in document("simulators/scenario.yaml")["simulators"]}
    polled = {}
    for number in (1, 2, 3):
        for source in document(f"edge/edge-{number}.yaml")["sources"]:
            url = source.get("base_url") or source.get("url") or f"tcp://{source.get('host')}:{source.get('port')}"
            polled[source["name"]] = url.split("/")[2]
    wanted = {"line-a": "plant", "line-b": "plant", "weather": "weather", "exchange": "exchange", "gate": "gate"}
    assert polled == {name: f"simulators:{ports[simulator]}" for name, simulator in wanted.items()}


@pytest.mark.parametrize("name", ["edge/edge-1.yaml", "edge/edge-2.yaml", "edge/edge-3.yaml", "cluster/edge-3.yaml"])
def test_a_node_is_called_as_its_certificate_says(name: str) -> None:
    config = read_config(COMPOSE / name, AgentConfig)
    assert config.mqtt.client_id == config.node
    assert config.node in NODES
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.cert_file is not None


def test_bridges_are_called_as_their_certificates_say_and_share_the_groups() -> None:
    names = "bridge/bridge.yaml", "cluster/bridge.yaml", "cluster/bridge-2.yaml"
    alone, first, second = (read_config(COMPOSE / name, BridgeConfig) for name in names)
    assert (alone.mqtt.client_id, first.mqtt.client_id, second.mqtt.client_id) == (BRIDGES[0], *BRIDGES)
    assert alone.groups == ("+",)
    assert not set(first.groups) & set(second.groups)
    carried = {*first.groups, *second.groups}
    allowed = {line.split("/")[1] for line in acl() if line.startswith("pattern write")}
    assert carried == allowed


def acl() -> list[str]:
    lines = (COMPOSE / "mosquitto/acl").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_what_any_node_may_write_names_it() -> None:
    patterns = [line for line in acl() if line.startswith("pattern write")]
    assert patterns
    assert all(line.split("/")[3] == "%u" and "+" not in line.split("/")[1] for line in patterns)


def test_nobody_writes_who_has_no_certificate() -> None:
    # Rules before the first `user` that are no patterns hold for those who have no name.
    before = acl()[: next(number for number, line in enumerate(acl()) if line.startswith("user "))]
    assert all(line.startswith("pattern ") for line in before)


@pytest.mark.parametrize("name", ["stream/stream.yaml", "cluster/stream.yaml"])
def test_the_stream_reaches_kafka_with_its_certificate_in_both_ways(name: str) -> None:
    options = client_options(read_config(COMPOSE / name, StreamConfig).kafka)
    assert options["security_protocol"] == "SSL"
    assert options["ssl_certfile"] == options["ssl_keyfile"] == "/secrets/spark/kafka.pem"
    assert options["ssl_cafile"] == "/secrets/spark/kafka-ca.pem"


def test_grafana_is_told_all_that_its_files_ask_of_its_environment() -> None:
    grafana = COMPOSE.parent / "grafana"
    files = [grafana / "grafana.ini", *sorted((grafana / "provisioning").rglob("*.yaml"))]
    # What stands in a comment is asked for by nobody.
    lines = [line for file in files for line in file.read_text().splitlines() if line.lstrip()[:1] not in {"#", ";"}]
    asked = {name for line in lines for name in re.findall(r"\$(?:__env)?\{(\w+)\}", line)}
    compose = yaml.safe_load((COMPOSE.parent / "docker-compose.yml").read_text())
    told = set(compose["services"]["grafana"]["environment"])
    assert asked
    assert {name for name in asked if name not in told and f"{name}_FILE" not in told} == set()


def test_what_the_page_of_alerts_puts_into_the_environment_reaches_grafana() -> None:
    page = (COMPOSE.parent / "docs/alerts.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    environment = yaml.safe_load((COMPOSE.parent / "docker-compose.yml").read_text())["services"]["grafana"][
        "environment"
    ]
    names = [line.partition("=")[0] for line in block.splitlines()]
    assert {"GF_SMTP_HOST", "HEADWATER_ALERT_TO"} < set(names)
    assert {name: environment.get(name) for name in names} == {name: f"${{{name}:-}}" for name in names}
    assert environment["GF_SMTP_PASSWORD__FILE"] == "/secrets/smtp.password"
