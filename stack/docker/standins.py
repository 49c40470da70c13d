"""Images under the names of the published ones, built of what this machine's registries have.

They let every Dockerfile and the compose file run as they are. What they prove is ours, not what the published images
do; Grafana's draws nothing at all.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from stack.install import CHECKOUT, KAFKA_LIB, MOSQUITTO, java

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from stack.docker.engine import Docker

_RECIPES: Final = Path(__file__).with_name("standins")
_ROOTFS: Final = "headwater-standin/rootfs"
_TIMESCALEDB_FILES: Final = Path("/var/lib/headwater/timescaledb.files")
_ARGUMENT: Final = re.compile(r"^ARG (\w+)=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StandIn:
    """What stands in for a repository's images: its recipe, and what of this machine goes into it."""

    recipe: str
    fill: Callable[[Path], None]


def build_standins(docker: Docker, rootfs: Path, repositories: Collection[str] = ()) -> Iterator[str]:
    """Build one for each image that the compose files and the Dockerfiles name; each name, when it is there.

    Of some `repositories` only where they are given. Those that are there are kept: after a change of a recipe remove
    its image.
    """
    if not _is_there(docker, _ROOTFS):
        docker("import", str(rootfs), _ROOTFS)
    published = published_images()
    bases = [
        f"--build-arg={argument}={published[repository]}"
        for argument, repository in (("PYTHON", "python"), ("JRE", "eclipse-temurin"), ("MAVEN", "maven"))
    ]
    for repository in repositories or STANDINS:
        if _is_there(docker, published[repository]):
            continue
        wanted = _ARGUMENT_NAMES.findall((_RECIPES / STANDINS[repository].recipe / "Dockerfile").read_text())
        arguments = [base for base in bases if base.partition("=")[2].partition("=")[0] in wanted]
        _build(docker, STANDINS[repository], "build", "--quiet", f"--tag={published[repository]}", *arguments)
        yield published[repository]


def build_python(docker: Docker, rootfs: Path, platform: str) -> str:
    """Build what stands in for Python's image on a platform, `linux/arm64`, that is not this machine's; its name."""
    tag = platform.replace("/", "-")
    base, name = f"{_ROOTFS}:{tag}", f"headwater-standin/python:{tag}"
    if not _is_there(docker, name):
        build = ("buildx", "build", "--load", "--quiet", f"--platform={platform}")
        # `docker import` has a --platform, too, and makes an image for this machine's all the same.
        recipe = f"FROM scratch\nADD {rootfs.name} /\n"
        docker(*build, f"--tag={base}", "--file=-", str(rootfs.parent), stdin=recipe.encode())
        # Of apt's sources it has the release's alone: this machine's may have nothing for that platform.
        _build(docker, StandIn("python", _settings), *build, f"--build-arg=ROOTFS={base}", f"--tag={name}")
    return name


def _build(docker: Docker, standin: StandIn, *command: str) -> None:
    with tempfile.TemporaryDirectory() as context:
        shutil.copytree(_RECIPES / standin.recipe, context, dirs_exist_ok=True)
        standin.fill(Path(context))
        docker(*command, context)


def _is_there(docker: Docker, image: str) -> bool:
    return docker.run("image", "inspect", image).returncode == 0


def published_images() -> dict[str, str]:
    """The images that are not ours: name with version, by repository."""
    compose = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    images = {service["image"] for service in compose["services"].values()}
    for dockerfile in (CHECKOUT / "compose").glob("*/Dockerfile"):
        images |= {image for _, image in _ARGUMENT.findall(dockerfile.read_text())}
    return {image.partition(":")[0]: image for image in sorted(images) if not image.startswith("headwater/")}


def _settings(context: Path) -> None:
    """Trusted certificates, pip's settings and apt's proxy."""
    _copy_etc(context, "pip.conf", "ssl/certs/ca-certificates.crt", "apt/apt.conf.d/*proxy*")


def _this_machine(context: Path) -> None:
    """Those and apt's sources, wherever its registries are."""
    _settings(context)
    _copy_etc(context, "apt/sources.list", "apt/sources.list.d/debian*.sources")


def _copy_etc(context: Path, *patterns: str) -> None:
    for path in (found for pattern in patterns for found in Path("/etc").glob(pattern)):
        _copy(path, context / "machine" / path.relative_to("/"))


def _java(context: Path) -> None:
    # Debian's has links to /etc, certificates among them: the files themselves are taken.
    _copy_tree(java().resolve().parents[1], context / "java")


def _maven(context: Path) -> None:
    _copy_tree(Path("/usr/share/maven"), context / "maven")
    (context / "m2").mkdir()
    _copy(Path.home() / ".m2/settings.xml", context / "m2/settings.xml")


def _mosquitto(context: Path) -> None:
    _copy(MOSQUITTO, context / "mosquitto")


def _kafka(context: Path) -> None:
    _copy_tree(KAFKA_LIB, context / "lib")


def _timescaledb(context: Path) -> None:
    for name in _TIMESCALEDB_FILES.read_text().splitlines():
        _copy(Path(name), context / "timescaledb" / name.lstrip("/"))


def _nothing(_context: Path) -> None:
    pass


def _copy(source: Path, target: Path) -> None:
    """A file, where there is one."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=_dangling)


def _dangling(directory: str, names: list[str]) -> list[str]:
    # copytree's own ignore_dangling_symlinks looks for a relative link's target in the working directory.
    return [name for name in names if not (Path(directory) / name).exists()]


_ARGUMENT_NAMES: Final = re.compile(r"^ARG (\w+)$", re.MULTILINE)
# By repository; later ones stand on earlier ones.
STANDINS: Final = {
    "python": StandIn("python", _this_machine),
    "eclipse-temurin": StandIn("jre", _java),
    "maven": StandIn("maven", _maven),
    "eclipse-mosquitto": StandIn("mosquitto", _mosquitto),
    "apache/kafka": StandIn("kafka", _kafka),
    "timescale/timescaledb": StandIn("timescaledb", _timescaledb),
    "grafana/grafana": StandIn("grafana", _nothing),
}
