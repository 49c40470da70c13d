"""The rules that the compose files keep, read off them: nobody has to start anything to see one broken."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract import __version__
from stack.docker.standins import STANDINS, published_images

ROOT = Path(__file__).parents[2]
BASE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CLUSTER = yaml.safe_load((ROOT / "docker-compose.cluster.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = BASE["services"]
PUBLISHED = {"mosquitto": "8883", "grafana": "3000", "jupyter": "8888"}
ONE_SHOTS = {"init", "kafka-acls", "migrations", "reconcile", "psql"}
DOCKERFILES = sorted((ROOT / "compose").glob("*/Dockerfile"))
# A name with a version of at least two numbers, or of ours.
PINNED = re.compile(r"^[a-z0-9./-]+:\d+\.\d+(\.\d+)?[\w.-]*$")


def merged() -> dict[str, dict[str, Any]]:
    """What the cluster file makes of the base, as far as it goes: lists are joined, mappings laid over each other."""
    services = {name: dict(service) for name, service in SERVICES.items()}
    for name, added in CLUSTER["services"].items():
        service = services.setdefault(name, {})
        for key, value in added.items():
            match service.get(key), value:
                case dict() as old, dict():
                    service[key] = {**old, **value}
                case list() as old, list() if key == "volumes":
                    service[key] = [*old, *value]
                case _:
                    service[key] = value
    return services


EVERY = [
    *(pytest.param(service, id=name) for name, service in SERVICES.items()),
    *(pytest.param(service, id=f"cluster-{name}") for name, service in merged().items() if name not in SERVICES),
]


@pytest.mark.parametrize("service", EVERY)
def test_a_service_can_do_little_harm(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    uid, _, gid = service["user"].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0


@pytest.mark.parametrize("service", EVERY)
def test_a_service_stays_up_and_says_how_it_is_or_runs_once(service: dict[str, Any]) -> None:
    if service["restart"] == "no":
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


def test_only_these_run_once() -> None:
    assert {name for name, service in merged().items() if service["restart"] == "no"} == ONE_SHOTS


@pytest.mark.parametrize(("name", "service"), merged().items())
def test_only_three_ports_are_published(name: str, service: dict[str, Any]) -> None:
    ports = service.get("ports", [])
    assert [port.rpartition(":")[2] for port in ports] == ([PUBLISHED[name]] if name in PUBLISHED else [])


def test_what_people_look_at_is_on_loopback_unless_somebody_says_otherwise() -> None:
    for name in ("grafana", "jupyter"):
        (port,) = SERVICES[name]["ports"]
        assert port.startswith("${HEADWATER_VIEWERS_BIND:-127.0.0.1}:")


@pytest.mark.parametrize("service", EVERY)
def test_an_image_has_a_version(service: dict[str, Any]) -> None:
    image = service["image"]
    assert PINNED.match(image)
    if image.startswith("headwater/"):
        assert image.rpartition(":")[2] == __version__
        assert service["pull_policy"] == "never"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_pins_what_it_stands_on_and_what_it_installs(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    images = re.findall(r"^ARG \w+=(\S+)$", text, re.MULTILINE)
    assert images
    assert all(PINNED.match(image) for image in images)
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert all(stage.startswith("${") or f" AS {stage}\n" in text for stage in stages)
    assert text.count("pip install") == text.count("--require-hashes --no-deps")
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "10001:10001"


def test_all_images_stand_on_one_python() -> None:
    assert len({re.search(r"^ARG PYTHON=(\S+)$", path.read_text(), re.MULTILINE)[1] for path in DOCKERFILES}) == 1  # type: ignore[index]  # each has one


def test_for_each_image_that_is_not_ours_there_is_a_standin() -> None:
    published = published_images()
    recipes = ROOT / "stack/docker/standins"
    assert set(published) == set(STANDINS)
    assert {standin.recipe for standin in STANDINS.values()} == {path.name for path in recipes.iterdir()}
    assert all((recipes / standin.recipe / "Dockerfile").exists() for standin in STANDINS.values())


def test_the_page_names_every_service() -> None:
    page = (ROOT / "docs/compose.md").read_text()
    for name in merged():
        assert f"`{name}`" in page or name in {"edge-2", "kafka-2", "kafka-3", "bridge-2"}, name


def test_kafka_is_of_the_version_that_the_tests_run() -> None:
    pom = (ROOT / "stack/kafka/pom.xml").read_text()
    tested = re.search(r"<kafka.version>(.+)</kafka.version>", pom)
    assert tested
    assert {service["image"] for service in merged().values() if "kafka" in service["image"]} == {
        f"apache/kafka:{tested[1]}"
    }


@pytest.mark.parametrize("service", EVERY)
def test_no_secret_is_in_the_environment_or_the_command(service: dict[str, Any]) -> None:
    environment: dict[str, str] = service.get("environment", {})
    for name, value in environment.items():
        if re.search(r"PASSWORD|TOKEN|SECRET|DSN|_KEY", name):
            assert name.endswith("_FILE"), name
            assert value.startswith("/secrets/"), name
    words = shlex.join(map(str, service.get("command", [])))
    # What a shell reads from a file is none.
    assert not re.search(r"(password|token)=(?!\"\$\$\(cat )|://\w+:\w+@", words, re.IGNORECASE)


def secrets_of(service: dict[str, Any]) -> set[str]:
    return {volume.partition(":")[0] for volume in service.get("volumes", []) if volume.startswith("secrets-")}


def test_secrets_are_written_by_init_and_read_by_one_service() -> None:
    services = merged()
    assert secrets_of(services["init"]) == {name for name in BASE["volumes"] if name.startswith("secrets-")}
    readers: dict[str, set[str]] = {}
    for name, service in services.items():
        for volume in secrets_of(service) if name != "init" else ():
            readers.setdefault(volume, set()).add(name)
    several = {volume: names for volume, names in readers.items() if len(names) > 1}
    # Brokers are one principal, as the job and its executors are.
    assert several == {
        "secrets-kafka": {"kafka", "kafka-acls", "kafka-2", "kafka-3"},
        "secrets-spark": {"spark-worker", "stream"},
        "secrets-bridge": {"bridge", "bridge-2"},
    }
    assert "secrets-authority" not in readers


@pytest.mark.parametrize(("name", "service"), merged().items())
def test_all_but_init_read_what_they_mount(name: str, service: dict[str, Any]) -> None:
    for volume in service.get("volumes", []):
        source, _, target = volume.partition(":")
        if source.startswith(("./", "secrets-")) and name != "init":
            assert target.endswith(":ro"), volume


@pytest.mark.parametrize(("name", "service"), merged().items())
def test_what_is_mounted_is_there(name: str, service: dict[str, Any]) -> None:
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).exists(), f"{name}: {source}"
        else:
            assert source in {**BASE["volumes"], **CLUSTER.get("volumes", {})}, f"{name}: {source}"


def test_networks_keep_devices_core_and_viewers_apart() -> None:
    services = merged()
    on = {name: set(service.get("networks", [])) for name, service in services.items()}
    assert BASE["networks"]["core"] == {"internal": True}
    assert {name for name, networks in on.items() if networks >= {"device", "core"}} == {"mosquitto"}
    assert {name for name, networks in on.items() if networks >= {"viewers", "core"}} == {"timescaledb"}
    assert not [name for name, networks in on.items() if networks >= {"device", "viewers"}]
    assert services["init"]["network_mode"] == "none"


@pytest.mark.parametrize(("name", "service"), merged().items())
def test_a_service_waits_for_what_is_healthy(name: str, service: dict[str, Any]) -> None:
    services = merged()
    for other, how in service.get("depends_on", {}).items():
        once = services[other]["restart"] == "no"
        assert how["condition"] == ("service_completed_successfully" if once else "service_healthy"), f"{name}: {other}"


def test_what_an_image_takes_is_let_through() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for dockerfile in DOCKERFILES:
        for source in re.findall(r"^COPY (?:--chown=\S+ )?([\w./-]+) ", dockerfile.read_text(), re.MULTILINE):
            assert source.split("/")[0] in allowed, f"{dockerfile}: {source}"
            assert (ROOT / source).exists(), f"{dockerfile}: {source}"
