"""An agent that was taken over lays links in all that is its own, and waits for root to come and install."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.bundle import BundleKind, Order, first_boot_script, make_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.bundle import Bundle, NodeFiles
    from tests.fleet.bundle.conftest import Machine, Workshop

# Nobody's, and with no name.
AGENT = 64321
FILE, DIRECTORY = "outside/file", "outside/directory"
# As on a device, but for the user's number.
AS_AGENT = f"""\
while [ "$1" != -- ]; do shift; done
shift
exec {shutil.which("setpriv")} --reuid {AGENT} --regid {AGENT} --clear-groups --no-new-privs -- "$@"
"""
CHOWN = f"""\
for word; do
    shift
    [ "$word" != headwater:headwater ] || word={AGENT}:{AGENT}
    set -- "$@" "$word"
done
exec {shutil.which("chown")} "$@"
"""
ID = f"""\
[ "${{1-}}" = headwater ] || exec {shutil.which("id")} "$@"
"""
# What each link leads to, by its place; those of a line are there at once.
LINKS = {
    "versions": {"opt/headwater/versions": DIRECTORY},
    "libraries": {"opt/headwater/deps": DIRECTORY},
    "models": {"var/lib/headwater/models": DIRECTORY},
    "the new version": {"opt/headwater/versions/{version}": DIRECTORY, "opt/headwater/deps/{deps}": DIRECTORY},
    "halves": {
        "opt/headwater/versions/{version}.partial": DIRECTORY,
        "opt/headwater/deps/{deps}.partial": DIRECTORY,
        "opt/headwater/.incoming": DIRECTORY,
        "opt/headwater/.current.partial": DIRECTORY,
        "etc/headwater/edge.yaml.partial": FILE,
        "etc/headwater/edge.yaml.before.partial": FILE,
        "etc/headwater/enrol.json.partial": FILE,
        "var/lib/headwater/models/.level.partial": DIRECTORY,
    },
    "files": {
        "opt/headwater/current": DIRECTORY,
        "opt/headwater/trial.json": FILE,
        "opt/headwater/rolled-back.json": FILE,
        "etc/headwater/edge.yaml": FILE,
        "etc/headwater/edge.yaml.before": FILE,
        "etc/headwater/enrol.json": FILE,
        "etc/headwater/key.pem": FILE,
        "etc/headwater/cert.pem": FILE,
        "var/lib/headwater/installed": "outside/not-there-yet",
        "var/lib/headwater/models/level": DIRECTORY,
        "var/cache/headwater/opt": DIRECTORY,
    },
}


@dataclass(frozen=True, slots=True)
class Taken:
    """A machine whose agent has another user than root, and cannot be trusted."""

    machine: Machine
    card: Path
    newer: Bundle

    def install(self, *options: str | Path) -> subprocess.CompletedProcess[str]:
        return self.machine.run("sh", self.card / "first-boot.sh", "--again", *options, self.card)

    def lay(self, links: dict[str, str], root: Path) -> None:
        """Puts links in the place of what is there."""
        deps = next((self.machine.root / "opt/headwater/deps").iterdir()).name
        for place, target in links.items():
            path = root / place.format(version=self.newer.version, deps=deps)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(self.card.parent / target)
            os.lchown(path, AGENT, AGENT)

    def outside(self) -> dict[str, tuple[int, int, int, bytes]]:
        """What is none of the agent's."""
        found = {}
        for path in (self.card.parent / "outside", *sorted((self.card.parent / "outside").rglob("*"))):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (status.st_uid, status.st_gid, status.st_mode, content)
        return found


@pytest.fixture(scope="module")
def newer(workshop: Workshop, node_files: NodeFiles, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A version after the first."""
    folder = tmp_path_factory.mktemp("newer")
    lock = (workshop.checkout / "requirements/edge.lock").read_text()
    checkout = workshop.put_checkout(folder / "checkout", lock, "import sys\nprint(sys.path)\n")
    return make_bundle(
        Order(BundleKind.TAR, workshop.target, "pi-1", node_files), folder / "b", workshop.wheels, checkout
    )


@pytest.fixture(scope="module")
def installed(archive: Bundle, newer: Bundle, machine_in: Callable[[Path], Machine]) -> Iterator[Taken]:
    """With an agent that is good yet."""
    if os.geteuid() != 0:
        pytest.skip("who is not root has no second user")
    # Not below pytest's own directories, which others cannot look into.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        machine = machine_in(folder)
        for program, script in {"setpriv": AS_AGENT, "chown": CHOWN, "id": ID}.items():
            machine.put(program, script)
        (folder / "outside/directory/lib").mkdir(parents=True)
        for place in ("file", "directory/file", "directory/lib/file"):
            (folder / "outside" / place).write_text("precious\n")
        (folder / "card").mkdir()
        (folder / "card/first-boot.sh").write_bytes(first_boot_script())
        shutil.copy(archive.path, folder / "card/headwater.tar.gz")
        ready = Taken(machine, folder / "card", newer)
        done = ready.install()
        assert done.returncode == 0, done.stderr
        shutil.copy(newer.path, folder / "card/headwater.tar.gz")
        (folder / "kept").mkdir()
        subprocess.run(("cp", "-a", folder / "root", folder / "outside", folder / "kept"), check=True)
        yield ready


@pytest.fixture
def taken(installed: Taken) -> Iterator[Taken]:
    """Each test's as it was, in the same place."""
    folder = installed.card.parent
    yield installed
    for name in ("root", "outside", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)
    subprocess.run(("cp", "-a", f"{folder}/kept/root", f"{folder}/kept/outside", folder), check=True)


@pytest.mark.parametrize("links", LINKS.values(), ids=LINKS)
def test_root_follows_no_link_of_the_agents(links: dict[str, str], taken: Taken) -> None:
    taken.lay(links, taken.machine.root)
    before = taken.outside()
    done = taken.install()
    assert taken.outside() == before
    # It is put right, or refused where root would have to know which of two directories the agent's is.
    assert (done.returncode == 0) == (len(links) > 1), done.stderr


def test_all_that_is_the_agents_is_its_own(taken: Taken) -> None:
    """It deletes old versions itself; and what root owned there it could not have been asked for."""
    assert taken.install().returncode == 0
    root = taken.machine.root
    places = [root / "opt/headwater", root / "etc/headwater", root / "var/lib/headwater", root / "var/cache/headwater"]
    assert {path.lstat().st_uid for place in places for path in (place, *place.rglob("*"))} == {AGENT}
    assert (root / "usr/lib/headwater/launcher.py").stat().st_uid == 0
    assert (root / "opt/headwater/current").readlink().name == taken.newer.version


def test_what_is_moved_to_a_data_partition_goes_through_no_link(taken: Taken) -> None:
    data = taken.card.parent / "data"
    assert taken.install("--data", data).returncode == 0
    (taken.machine.root / "etc/systemd/system/etc-headwater.mount").unlink()
    taken.lay({"etc/headwater/edge.yaml": FILE, "etc/headwater/enrol.json": FILE}, data)
    before = taken.outside()
    assert taken.install("--data", data).returncode == 0
    assert taken.outside() == before
    assert (data / "etc/headwater/edge.yaml").read_bytes() == b"node: pi-1\n"


def test_the_command_line_reads_nothing_for_the_agent_that_it_could_not_read(taken: Taken) -> None:
    secret = taken.card.parent / "outside/file"
    secret.chmod(0o600)
    deps = (taken.machine.root / "opt/headwater/current").resolve() / "deps"
    deps.unlink()
    deps.symlink_to(secret)
    done = taken.machine.run(taken.machine.root / "usr/bin/headwater-edge", "check")
    assert "precious" not in done.stdout + done.stderr
    assert "Permission denied" in done.stderr


def test_what_root_has_laid_there_once_and_the_agent_cannot_delete_hinders_nothing(taken: Taken) -> None:
    for place in ("versions/0.0.9", "deps/old"):
        (taken.machine.root / "opt/headwater" / place / "lib").mkdir(parents=True)
        (taken.machine.root / "opt/headwater" / place / "lib/x.py").touch()
    done = taken.install()
    assert done.returncode == 0, done.stderr
    assert (taken.machine.root / "opt/headwater/current").readlink().name == taken.newer.version
