"""The Debian package, by dpkg itself, in a directory for its root."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fleet.bundle import BundleKind, Order, make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.bundle import Bundle, NodeFiles
    from tests.fleet.bundle.conftest import Machine, Workshop

FORCED = ("script-chrootless", "depends", "architecture", "not-root", "bad-path")
CUTS = 3


@dataclass(frozen=True, slots=True)
class Debian:
    """A machine with a package manager."""

    machine: Machine

    def dpkg(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        root = self.machine.root
        forced = f"--force-{','.join(FORCED)}"
        return self.machine.run_alone(str(shutil.which("dpkg")), f"--root={root}", "--log=/dev/null", forced, *words)

    def says(self) -> str:
        """What is started, by who starts it."""
        done = self.machine.run(self.machine.root / "usr/bin/headwater-edge", "status")
        return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture
def debian(machine: Machine) -> Debian:
    if shutil.which("dpkg") is None:
        pytest.skip("no dpkg here")
    for folder in ("info", "updates", "triggers"):
        (machine.root / "var/lib/dpkg" / folder).mkdir(parents=True)
    (machine.root / "var/lib/dpkg/status").touch()
    return Debian(machine)


@pytest.fixture(scope="module")
def package(workshop: Workshop, node_files: NodeFiles) -> Bundle:
    return workshop.once(BundleKind.DEB, node_files)


@pytest.fixture(scope="module")
def newer(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("newer-package")
    lock = (workshop.checkout / "requirements/edge.lock").read_text()
    checkout = workshop.put_checkout(folder / "checkout", lock, "print('I am newer')\n")
    return make_bundle(Order(BundleKind.DEB, workshop.target), folder / "agent.deb", workshop.wheels, checkout)


def test_a_package_installs_and_leaves_as_packages_do(debian: Debian, package: Bundle) -> None:
    root = debian.machine.root
    done = debian.dpkg("--install", package.path)
    assert done.returncode == 0, done.stderr
    assert '"node": "plant/pi-1"' in debian.says()
    assert (root / "etc/headwater/enrol.json").stat().st_mode & 0o777 == 0o600
    assert not (root / "usr/lib/headwater/node").exists()
    assert not (root / "opt/.headwater-incoming").exists()
    assert debian.dpkg("--remove", "headwater-edge").returncode == 0
    assert not (root / "opt/headwater").exists()
    assert not (root / "usr/lib/headwater").exists()
    assert (root / "etc/headwater/edge.yaml").exists()
    assert debian.dpkg("--purge", "headwater-edge").returncode == 0
    assert not (root / "etc/headwater").exists()
    assert not (root / "var/lib/headwater").exists()


def test_dpkg_has_no_business_in_the_agents_directories(package: Bundle) -> None:
    listed = subprocess.run(("dpkg-deb", "--fsys-tarfile", package.path), capture_output=True, check=True)
    names = subprocess.run(("tar", "-t"), input=listed.stdout, capture_output=True, check=True).stdout.decode().split()
    assert "./usr/lib/headwater/bundle.tar.gz" in names
    assert {"/".join(name.split("/")[:2]) for name in names} == {"./", "./usr"}


@pytest.mark.parametrize("cuts", [CUTS, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "all"])
def test_an_upgrade_may_be_cut_anywhere_and_an_agent_starts(
    cuts: int, debian: Debian, package: Bundle, newer: Bundle, tmp_path: Path
) -> None:
    assert debian.dpkg("--install", package.path).returncode == 0
    # All files of the package are the new one's now, and nothing is set up yet.
    assert debian.dpkg("--unpack", newer.path).returncode == 0
    assert '"node": "plant/pi-1"' in debian.says()
    subprocess.run(("cp", "-a", debian.machine.root, tmp_path / "kept"), check=True)
    debian.machine.cut_at(0)
    assert debian.dpkg("--configure", "-a").returncode == 0
    assert debian.says() == "I am newer\n"
    changes = debian.machine.changes()
    assert changes > 30
    for cut in range(1, changes, max(1, changes // cuts)):
        shutil.rmtree(debian.machine.root)
        subprocess.run(("cp", "-a", tmp_path / "kept", debian.machine.root), check=True)
        debian.machine.cut_at(cut)
        assert debian.dpkg("--configure", "-a").returncode != 0
        debian.machine.cut_at(0)
        said = debian.says()
        assert '"node": "plant/pi-1"' in said or said == "I am newer\n", f"after change {cut}: {said}"
        done = debian.dpkg("--configure", "-a")
        assert done.returncode == 0, done.stderr
        assert debian.says() == "I am newer\n"


def test_the_same_package_again_puts_right_what_is_damaged_and_keeps_an_update(debian: Debian, package: Bundle) -> None:
    assert debian.dpkg("--install", package.path).returncode == 0
    opt = debian.machine.root / "opt/headwater"
    version = opt / "versions" / package.version
    shutil.copytree(version, opt / "versions/9")
    (opt / "current").unlink()
    (opt / "current").symlink_to("versions/9")
    (version / "lib/edge/__main__.py").write_text("")
    assert debian.dpkg("--install", package.path).returncode == 0
    assert (version / "lib/edge/__main__.py").read_text() != ""
    assert str((opt / "current").readlink()) == "versions/9"


def test_a_purge_takes_the_mounts_of_a_data_partition_along(debian: Debian, package: Bundle, tmp_path: Path) -> None:
    debian.machine.environment["HEADWATER_SETUP"] = f"--data {tmp_path}/data"
    assert debian.dpkg("--install", package.path).returncode == 0
    units = debian.machine.root / "etc/systemd/system"
    assert len(list(units.glob("*.mount"))) == 3
    assert debian.dpkg("--purge", "headwater-edge").returncode == 0
    assert list(units.glob("*.mount")) == []
    assert "disable var-lib-headwater.mount" in debian.machine.told_systemctl()
