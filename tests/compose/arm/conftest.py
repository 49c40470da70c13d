"""The agent's image for each ARM, on this machine's Docker engine, or on ours with qemu and a stand-in for its base."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stack.docker import Engine, build_python, build_standins, working_engine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from stack.docker import Docker

ROOT = Path(__file__).parents[3]
ARCHITECTURES = {"linux/arm64": "arm64", "linux/arm/v7": "armhf"}


@dataclass(frozen=True)
class Image:
    """The agent's, for one platform."""

    docker: Docker
    platform: str

    @property
    def name(self) -> str:
        return f"headwater/edge:test-{self.platform.replace('/', '-')}"

    def build(self, base: str | None) -> None:
        """As the page has it, but for the stand-in."""
        arguments = [] if base is None else [f"--build-arg=PYTHON={base}"]
        recipe = ["--load", "--file", str(ROOT / "compose/edge/Dockerfile"), "--tag", self.name, *arguments]
        self.docker("buildx", "build", "--platform", self.platform, *recipe, str(ROOT), timeout_s=3600)

    def size_mb(self) -> int:
        return round(int(self.docker("image", "inspect", "--format", "{{.Size}}", self.name)) / 1e6)

    def run(
        self, *words: str, program: str | None = None, mounts: Mapping[Path, str] | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """What came of it, as nobody's user on a read-only root."""
        limits = ["--rm", "-i", "--platform", self.platform, "--network", "none", "--read-only", "--tmpfs", "/tmp"]
        shared = [f"--volume={here}:{there}" for here, there in (mounts or {}).items()]
        entry = [] if program is None else ["--entrypoint", program]
        return self.docker.run("run", *limits, *shared, *entry, self.name, *words, stdin=stdin)


@pytest.fixture(scope="session")
def bases() -> Iterator[tuple[Docker, dict[str, str]]]:
    """An engine, and what stands in for Python's image on each platform: nothing where that can be pulled."""
    if found := working_engine():
        print("\nDocker: this machine's engine, published images")
        yield found, {}
        return
    with ExitStack() as stack:
        engine = Engine()
        roots = {each: stack.enter_context(engine.foreign(name)) for each, name in ARCHITECTURES.items()}
        stack.enter_context(engine)
        for image in build_standins(engine.docker, engine.directory / "rootfs.tar", ("python", "eclipse-mosquitto")):
            print(f"\nstand-in {image}", end="", flush=True)
        yield engine.docker, {each: build_python(engine.docker, root, each) for each, root in roots.items()}
        # What new images have taken the names of.
        engine.docker("image", "prune", "--force")


@pytest.fixture(scope="session")
def docker(bases: tuple[Docker, dict[str, str]]) -> Docker:
    """In place of the one with every stand-in."""
    return bases[0]


@pytest.fixture(scope="session", params=ARCHITECTURES)
def image(request: pytest.FixtureRequest, bases: tuple[Docker, dict[str, str]]) -> Image:
    """Built, from the base on."""
    image = Image(bases[0], request.param)
    start = time.monotonic()
    image.build(bases[1].get(image.platform))
    print(f"\n{image.platform}: {image.size_mb()} MB, built in {time.monotonic() - start:.0f} s")
    return image
