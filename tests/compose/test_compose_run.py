"""The compose file run for real: who may do what, what is seen from outside, and that nothing is lost."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from stack import wait_until

pytestmark = pytest.mark.slow

PROBE = Path(__file__).with_name("device.py")
RUN_S = 60.0
RECONCILED_S = 180.0
SETTLED_S = 120.0
ACCEPTED, NOT_AUTHORIZED = {0, 16}, {135}
OURS = ("init", "bridge", "db", "edge", "stream", "simulators", "jupyter")


def test_nobody_runs_as_root_and_nobody_has_a_capability(project: Any) -> None:
    for name, container in project.inspect().items():
        processes = project.docker("top", container["Id"], "-eo", "uid,pid,args").splitlines()[1:]
        assert processes, name
        assert not [line for line in processes if line.split()[0] == "0"], name
        status = dict(
            line.split(":", 1) for line in project.docker("exec", container["Id"], "cat", "/proc/1/status").splitlines()
        )
        assert {int(status[key], 16) for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, name
        assert status["NoNewPrivs"].strip() == "1", name


def test_roots_are_read_only(project: Any) -> None:
    for name, container in project.inspect().items():
        done = project.docker.run("exec", container["Id"], "sh", "-c", "echo x >/usr/headwater-was-here")
        assert done.returncode != 0, name
        assert b"Read-only file system" in done.stderr, name


def test_memory_is_bounded(project: Any) -> None:
    assert all(container["HostConfig"]["Memory"] > 0 for container in project.inspect().values())


def test_no_secret_is_seen_from_outside(project: Any) -> None:
    mail = secrets.token_urlsafe(24)
    project.compose("run", "--rm", "-T", "--no-deps", "init", "smtp-password", stdin=mail.encode())
    project.compose("restart", "grafana")
    assert wait_until(project.is_settled, timeout_s=SETTLED_S, poll_s=1.0), project.states()
    shown = [
        project.run(service, "cat", f"/secrets/{name}").strip()
        for service, name in (
            ("stream", "stream/dsn"),
            ("jupyter", "token"),
            ("timescaledb", "superuser.password"),
            ("grafana", "reader.password"),
            ("grafana", "admin.password"),
            ("grafana", "smtp.password"),
            ("maintenance", "dsn"),
        )
    ]
    assert shown[-2] == mail
    passwords = [secret.rpartition("password=")[2] for secret in shown]
    assert min(map(len, passwords)) >= 32
    seen = json.dumps(list(project.inspect(running=False).values())) + project.compose("logs", "--no-color")
    assert not [password[:4] for password in passwords if password in seen]


@pytest.fixture(scope="module")
def visitor(project: Any) -> dict[str, Any]:
    """What one with a new device's certificate finds on the network on which ports are published."""
    certificate = project.compose_bytes("run", "--rm", "-T", "--no-deps", "init", "device", "visitor")
    probe = PROBE.read_text()
    limits = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    command = ["run", "--rm", "-i", "--network", "host", *limits, "--entrypoint", "python", project.image("edge-1")]
    found: dict[str, Any] = json.loads(project.docker(*command, "-c", probe, stdin=certificate))
    return found


def test_a_device_writes_only_as_itself(visitor: dict[str, Any]) -> None:
    codes = visitor["published"]
    accepted = {topic for topic, code in codes.items() if code in ACCEPTED}
    assert accepted == {"spBv1.0/demo/NDATA/visitor", "spBv1.0/demo/DDATA/visitor/pump"}
    assert {code for topic, code in codes.items() if topic not in accepted} == NOT_AUTHORIZED


def test_three_ports_are_published_and_no_other(project: Any, visitor: dict[str, Any]) -> None:
    assert sorted(visitor["open"]) == [3000, 8883, 8888]
    published = {
        (name, binding["HostPort"])
        for name, container in project.inspect().items()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    assert published == {("mosquitto-1", "8883"), ("grafana-1", "3000"), ("jupyter-1", "8888")}


def test_jupyter_wants_its_token(visitor: dict[str, Any]) -> None:
    assert visitor["status"] == {"http://127.0.0.1:8888/api/contents": 403, "http://127.0.0.1:3000/api/health": 200}


REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()"


@pytest.mark.parametrize(
    ("service", "host", "port", "reached"),
    [
        ("edge-1", "mosquitto", 8883, True),
        ("edge-1", "kafka", 9092, False),
        ("edge-1", "timescaledb", 5432, False),
        ("jupyter", "timescaledb", 5432, True),
        ("jupyter", "kafka", 9092, False),
        ("jupyter", "mosquitto", 8883, False),
        ("bridge", "kafka", 9092, True),
        ("bridge", "simulators", 5020, False),
    ],
)
def test_who_reaches_whom(project: Any, service: str, host: str, port: int, *, reached: bool) -> None:
    (container,) = [one["Id"] for name, one in project.inspect().items() if name == f"{service}-1"]
    done = project.docker.run("exec", container, "python", "-c", REACH, host, str(port))
    assert (done.returncode == 0) == reached, done.stderr.decode()


def test_an_operator_says_where_nodes_stand_and_changes_nothing_else(project: Any) -> None:
    def ask(statement: str) -> Any:
        return project.compose_run("run", "--rm", "-T", "psql", "--no-align", "--tuples-only", "-c", statement)

    entered = ask("insert into node_position values ('demo', 'edge-1', 'North works', 52.52, 13.41) returning site")
    assert entered.stdout.decode().splitlines()[:1] == ["North works"], entered.stderr.decode()
    refused = ask("delete from node")
    assert refused.returncode != 0
    assert b"permission denied" in refused.stderr


def test_up_again_changes_no_secret(project: Any) -> None:
    before = project.run("stream", "cat", "/secrets/stream/dsn")
    said = project.compose("run", "--rm", "-T", "--no-deps", "init")
    assert said.strip() == "everything is there already"
    assert project.run("stream", "cat", "/secrets/stream/dsn") == before


def test_nothing_is_lost(project: Any) -> None:
    """The last one: agents are stopped, and what the simulators served is held against the database."""
    time.sleep(RUN_S)  # readings are gathered: there is nothing else to wait for
    with project.timed("agents deliver, and end"):
        project.compose("stop", "--timeout", "60", "edge-1", "edge-2", "edge-3")
    ended = {name: state for name, state in project.states().items() if name.startswith("edge-")}
    assert ended == dict.fromkeys(ended, "exited 0")
    reconciled = []

    def clean() -> bool:
        reconciled[:] = [project.compose_run("run", "--rm", "-T", "reconcile")]
        return reconciled[0].returncode == 0

    with project.timed("committed to the last reading"):
        done = wait_until(clean, timeout_s=RECONCILED_S, poll_s=2.0)
    print(f"\n{reconciled[0].stdout.decode()}")
    assert done, reconciled[0].stderr.decode()


def test_how_large_the_images_are(project: Any) -> None:
    lines = project.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}  {{.Size}}", "headwater/*").splitlines()
    print("\n" + "\n".join(sorted(lines)))
    assert {line.split("/")[1].split(":")[0] for line in lines} >= set(OURS)
