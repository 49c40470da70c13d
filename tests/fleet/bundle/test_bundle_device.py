"""What bundles do on a device, in a directory for its root."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.bundle import first_boot_script

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.bundle import Bundle
    from tests.fleet.bundle.conftest import Machine

CUTS = 4


def make_card(folder: Path, bundle: Bundle) -> Path:
    folder.mkdir()
    shutil.copy(bundle.path, folder / "headwater.tar.gz")
    (folder / "first-boot.sh").write_bytes(first_boot_script())
    return folder


@pytest.fixture
def card(tmp_path: Path, archive: Bundle) -> Path:
    return make_card(tmp_path / "card", archive)


def tree(root: Path) -> dict[str, str]:
    """What is under the root, but for what was told to systemctl and what Python compiled."""
    return {
        path.relative_to(root).as_posix(): (
            f"-> {path.readlink()}"
            if path.is_symlink()
            else f"{path.stat().st_mode:o} {path.read_bytes().hex()}"
            if path.is_file()
            else f"{path.stat().st_mode:o}"
        )
        for path in sorted(root.rglob("*"))
        if path.name not in {"systemctl", "headwater-first-boot.lock"} and "cache" not in path.parts
    }


def test_first_boot_installs_a_bundle_and_what_is_the_nodes_own(machine: Machine, card: Path, archive: Bundle) -> None:
    done = machine.run("sh", card / "first-boot.sh", card)
    assert done.returncode == 0, done.stderr
    current = machine.root / "opt/headwater/current"
    assert str(current.readlink()) == f"versions/{archive.version}"
    assert (machine.root / "etc/headwater/edge.yaml").read_bytes() == b"node: pi-1\n"
    assert (machine.root / "etc/headwater/enrol.json").stat().st_mode & 0o777 == 0o600
    assert (machine.root / "etc/headwater").stat().st_mode & 0o777 == 0o700
    assert (machine.root / "var/lib/headwater/models/level/manifest.json").stat().st_mode & 0o777 == 0o600
    assert "enable headwater-enrol.service headwater-edge.service" in machine.told_systemctl()
    assert not (machine.root / "opt/.headwater-incoming").exists()
    assert not (machine.root / "etc/systemd/system/headwater-first-boot.service").exists()


def test_the_agent_runs_by_the_launcher_and_by_hand(machine: Machine, card: Path) -> None:
    machine.run("sh", card / "first-boot.sh", card)
    root, packages = machine.root / "opt/headwater", machine.root / "usr"
    unit = (packages / "lib/systemd/system/headwater-edge.service").read_text()
    words = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).removeprefix("ExecStart=").split()
    words = [word.replace("/usr/lib/headwater", f"{packages}/lib/headwater") for word in words]
    words = [str(root) if word == "/opt/headwater" else word for word in words]
    started = machine.run(*words)
    assert started.returncode == 0, started.stderr
    told = json.loads(started.stdout)
    assert told["says"] == "hello"
    assert told["arguments"] == ["--log-format", "json", "run", "/etc/headwater/edge.yaml"]
    by_hand = machine.run(packages / "bin/headwater-edge", "check", "x.yaml")
    assert json.loads(by_hand.stdout)["arguments"] == ["check", "x.yaml"]


def test_done_once_it_does_nothing_more(machine: Machine, card: Path) -> None:
    machine.run("sh", card / "first-boot.sh", card)
    (machine.root / "etc/headwater/edge.yaml").write_text("changed by an update\n")
    assert machine.run("sh", card / "first-boot.sh", card).returncode == 0
    assert (machine.root / "etc/headwater/edge.yaml").read_text() == "changed by an update\n"


def test_the_card_is_wiped_when_all_is_in_place(machine: Machine, card: Path) -> None:
    """Also at the boot after, where the power failed in between."""
    (card / "wipe.sh").write_text(f"cp {machine.root}/usr/lib/headwater/installed {card}/wiped\n")
    machine.run("sh", card / "first-boot.sh", card)
    assert (card / "wiped").exists()
    (card / "wiped").unlink()
    machine.run("sh", card / "first-boot.sh", card)
    assert (card / "wiped").exists()


def test_a_device_with_an_identity_takes_a_new_token(machine: Machine, card: Path) -> None:
    """Its certificate may have expired, or been revoked."""
    identity = machine.root / "var/lib/headwater/identity"
    identity.mkdir(parents=True)
    (identity / "cert.pem").write_text("a certificate")
    assert machine.run("sh", card / "first-boot.sh", card).returncode == 0
    assert (machine.root / "etc/headwater/enrol.json").exists()
    assert (identity / "cert.pem").read_text() == "a certificate"


def test_what_is_on_the_card_counts_more_than_what_is_in_the_bundle(machine: Machine, card: Path) -> None:
    (card / "edge.yaml").write_text("node: pi-1\n# of the card\n")
    assert machine.run("sh", card / "first-boot.sh", card).returncode == 0
    assert "of the card" in (machine.root / "etc/headwater/edge.yaml").read_text()


def test_a_newer_bundle_takes_over_and_ends_a_trial(machine: Machine, card: Path, archive: Bundle) -> None:
    machine.run("sh", card / "first-boot.sh", card)
    (machine.root / "opt/headwater/trial.json").write_text("{}")
    (machine.root / "opt/headwater/deps/of-old").mkdir()
    shutil.copytree(
        machine.root / f"opt/headwater/versions/{archive.version}", machine.root / "opt/headwater/versions/9"
    )
    setup = machine.root / "usr/lib/headwater/setup"
    assert machine.run(setup, "--keep-current", "--version", "9").returncode == 0
    assert (machine.root / "opt/headwater/current").readlink().name == archive.version
    assert machine.run(setup, "--version", "9").returncode == 0
    assert (machine.root / "opt/headwater/current").readlink().name == "9"
    assert not (machine.root / "opt/headwater/trial.json").exists()
    # What no version names is gone; what one does is not.
    assert len(list((machine.root / "opt/headwater/deps").iterdir())) == 1
    assert machine.run(setup, "--version", "10").returncode == 1


@pytest.mark.parametrize(
    ("about", "fault"),
    [
        ("ARCH=arm64", "is for arm64, and this device is amd64"),
        ("PYTHON=3.1", "is for Python 3.1, and this device has"),
    ],
)
def test_a_bundle_for_another_device_is_refused(
    about: str, fault: str, machine: Machine, card: Path, tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    subprocess.run(("tar", "-xf", card / "headwater.tar.gz", "-C", inside), check=True)
    with (inside / "about").open("a") as file:
        file.write(f"{about}\n")
    done = machine.run("sh", inside / "install")
    assert done.returncode == 1
    assert fault in done.stderr
    assert tree(machine.root) == {}


def test_two_bundles_on_a_card_are_refused(machine: Machine, card: Path) -> None:
    shutil.copy(card / "headwater.tar.gz", card / "other.tar.gz")
    done = machine.run("sh", card / "first-boot.sh", card)
    assert (done.returncode, "two bundles" in done.stderr) == (1, True)


def test_where_the_root_is_read_only_what_changes_is_mounted(machine: Machine, card: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert machine.run("sh", card / "first-boot.sh", "--data", data, card).returncode == 0
    for place in ("opt/headwater", "etc/headwater", "var/lib/headwater"):
        unit = (machine.root / f"etc/systemd/system/{place.replace('/', '-')}.mount").read_text()
        assert f"What={data}/{place}\nWhere=/{place}\n" in unit
        assert (data / place).is_dir()
    assert "enable var-lib-headwater.mount" in machine.told_systemctl()


@pytest.mark.parametrize("cuts", [CUTS, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "all"])
def test_the_power_may_fail_anywhere(cuts: int, machine: Machine, card: Path) -> None:
    machine.cut_at(0)
    assert machine.run_alone("sh", card / "first-boot.sh", card).returncode == 0
    wanted, changes = tree(machine.root), machine.changes()
    assert changes > 40
    for cut in range(1, changes, max(1, changes // cuts)):
        shutil.rmtree(machine.root)
        machine.root.mkdir()
        machine.cut_at(cut)
        assert machine.run_alone("sh", card / "first-boot.sh", card).returncode != 0
        current = machine.root / "opt/headwater/current"
        assert not current.is_symlink() or (current / "lib/edge/__main__.py").is_file()
        unit = machine.root / "etc/systemd/system/headwater-first-boot.service"
        assert cut < 5 or unit.exists() or (machine.root / "usr/lib/headwater/installed").exists()
        machine.cut_at(0)
        assert machine.run_alone("sh", card / "first-boot.sh", card).returncode == 0
        assert tree(machine.root) == wanted, f"after change {cut}"


@pytest.mark.parametrize("cuts", [CUTS // 2, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "all"])
def test_the_power_may_fail_while_what_is_damaged_is_put_right(cuts: int, machine: Machine, card: Path) -> None:
    again = ("sh", card / "first-boot.sh", "--again", card)
    assert machine.run(*again).returncode == 0
    wanted = tree(machine.root)
    damaged = next((machine.root / "opt/headwater/versions").iterdir()) / "lib/contract/__init__.py"
    damaged.write_text("# damaged\n")
    machine.cut_at(0)
    machine.run_alone(*again)
    changes = machine.changes()
    for cut in range(1, changes, max(1, changes // cuts)):
        damaged.write_text("# damaged\n")
        machine.cut_at(cut)
        assert machine.run_alone(*again).returncode != 0
        assert (machine.root / "opt/headwater/current/lib/edge/__main__.py").is_file(), f"after change {cut}"
        machine.cut_at(0)
        assert machine.run_alone(*again).returncode == 0
        assert tree(machine.root) == wanted, f"after change {cut}"


def test_nobody_reads_a_secret_on_its_way(machine: Machine, card: Path) -> None:
    """The umask of whoever starts it does not matter."""
    environment = dict(machine.environment)
    done = subprocess.run(
        ("sh", "-c", f"umask 000; exec sh {card}/first-boot.sh {card}"),
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    open_to_all = [
        path
        for path in machine.root.rglob("*")
        if not path.is_symlink() and path.name != "systemctl" and path.stat().st_mode & 0o022
    ]
    assert open_to_all == []
    assert (machine.root / "etc/headwater/enrol.json").stat().st_mode & 0o077 == 0
