"""The whole compose file, running: on this machine's Docker engine, or else on one of our own with stand-in images."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from compose.init.issue import Secrets
from stack import wait_until
from stack.docker import Engine, build_standins, working_engine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stack.docker import Docker

ROOT = Path(__file__).parents[2]
HEALTHY_S = 420.0
ALONE, CLUSTER, FLEET = "headwater-test", "headwater-cluster-test", "headwater-fleet-test"


@pytest.fixture(scope="session")
def make() -> Callable[..., list[str]]:
    """Does what the one-shot `init` does below a folder; the lines that it says."""
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["init"]["volumes"]

    def made(root: Path, mqtt_hosts: Sequence[str] = ()) -> list[str]:
        for volume in volumes:
            (root / volume.rpartition("/")[2]).mkdir(exist_ok=True)
        return list(Secrets(root, mqtt_hosts).make())

    return made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make: Callable[..., list[str]]) -> Path:
    """All secrets, as `init` made them."""
    root = tmp_path_factory.mktemp("secrets")
    make(root)
    return root


@dataclass(frozen=True)
class Project:
    """A project of its own, so that nobody's volumes are touched."""

    docker: Docker
    name: str = ALONE
    files: tuple[str, ...] = ("docker-compose.yml",)
    timings: list[str] = field(default_factory=list)

    def compose(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 1800.0) -> str:
        """What a command of Compose prints; fails the test where it fails."""
        return self.compose_bytes(*arguments, stdin=stdin, timeout_s=timeout_s).decode()

    def compose_bytes(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 1800.0) -> bytes:
        done = self.compose_run(*arguments, stdin=stdin, timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout

    def compose_run(
        self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 1800.0
    ) -> subprocess.CompletedProcess[bytes]:
        files = [word for file in self.files for word in ("--file", str(ROOT / file))]
        words = ["compose", "--project-name", self.name, *files, "--profile", "sim", *arguments]
        return self.docker.run(*words, stdin=stdin, timeout_s=timeout_s)

    def image(self, service: str) -> str:
        """The image that a service runs."""
        return str(json.loads(self.compose("config", "--format", "json"))["services"][service]["image"])

    def inspect(self, *, running: bool = True) -> dict[str, dict[str, Any]]:
        """What the engine knows of each container, by the name that Compose gave it."""
        ids = self.compose("ps", "--quiet", *([] if running else ["--all"])).split()
        found = json.loads(self.docker("inspect", *ids))
        return {container["Name"].removeprefix(f"/{self.name}-"): container for container in found}

    def states(self) -> dict[str, str]:
        """healthy, starting, exited 0, ..."""
        return {name: _state(container["State"]) for name, container in self.inspect(running=False).items()}

    def is_settled(self) -> bool:
        """Whether all are healthy, or have done what they do once."""
        return all(state in {"healthy", "exited 0"} for state in self.states().values())

    def was_restarted(self, container: str) -> bool:
        return int(self.docker("inspect", "--format", "{{.RestartCount}}", container)) > 0

    def kill_inside(self, container: str) -> None:
        """End a container's first process as a crash would: `docker kill` would keep the engine from restarting it."""
        pid = self.docker("inspect", "--format", "{{.State.Pid}}", container).strip()
        host = ["--rm", "--pid", "host", "--user", "0", "--cap-drop", "ALL", "--cap-add", "KILL", "--network", "none"]
        self.docker("run", *host, "--entrypoint", "python", self.image("bridge"), "-c", f"import os; os.kill({pid}, 9)")

    def run(self, service: str, *command: str) -> str:
        """What a command in a running container prints."""
        return self.compose("exec", "-T", service, *command)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.timings.append(f"{what:<32} {time.monotonic() - start:6.1f} s")
        print(f"\n{self.timings[-1]}", flush=True)


def _state(state: dict[str, Any]) -> str:
    if state["Status"] != "running":
        return f"{state['Status']} {state['ExitCode']}"
    return str(state.get("Health", {}).get("Status", "running"))


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine: the machine's, or ours with images that stand in for what cannot be pulled."""
    if found := working_engine():
        print("\nDocker: this machine's engine, published images")
        yield found
        return
    with Engine() as engine:
        start = time.monotonic()
        for image in build_standins(engine.docker, engine.directory / "rootfs.tar"):
            print(f"\nstand-in {image} after {time.monotonic() - start:.0f} s", end="", flush=True)
        yield engine.docker
        # What new images have taken the names of.
        engine.docker("image", "prune", "--force")


@pytest.fixture(scope="module")
def project(docker: Docker) -> Iterator[Project]:
    """Everything up and healthy, simulators and agents too; gone with its volumes in the end."""
    with running(Project(docker)) as project:
        yield project


@pytest.fixture(scope="module")
def cluster(docker: Docker) -> Iterator[Project]:
    """The same with three brokers, two bridges and four workers."""
    files = ("docker-compose.yml", "docker-compose.cluster.yml")
    with running(Project(docker, CLUSTER, files)) as project:
        yield project


@pytest.fixture(scope="session")
def project_of(docker: Docker) -> Callable[..., Project]:
    """A project of such a name with an override, in such an environment."""

    def made(name: str, override: str, environment: Mapping[str, str] | None = None) -> Project:
        env = {**docker.env, **(environment or {})}
        return Project(replace(docker, env=env), name, ("docker-compose.yml", override))

    return made


@pytest.fixture(scope="session")
def project_of_fleet(project_of: Callable[..., Project]) -> Callable[[Mapping[str, str]], Project]:
    """The project with a fleet's broker, of such an environment."""
    return partial(project_of, FLEET, "docker-compose.fleet.yml")


@contextmanager
def running(project: Project) -> Iterator[Project]:
    """Up and healthy; gone in the end, and the timings told."""
    with ExitStack() as stack:
        # What a run that was killed has left, and an engine that starts again started again, goes first.
        for name in (ALONE, CLUSTER, FLEET):
            replace(project, name=name).compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
        stack.callback(project.compose, "down", "--volumes", "--timeout", "30")
        with project.timed("build of our images"):
            project.compose("build")
        with project.timed("up, until all are healthy"):
            project.compose("up", "--detach")
            healthy = wait_until(project.is_settled, timeout_s=HEALTHY_S, poll_s=2.0)
        assert healthy, f"{project.states()}\n{project.compose('logs', '--tail', '20')}"
        yield project
        print(project.docker("stats", "--no-stream", "--format", "table {{.Name}}\t{{.MemUsage}}"))
        with project.timed("down"):
            stack.close()
    print("\n".join(["", *project.timings]))
