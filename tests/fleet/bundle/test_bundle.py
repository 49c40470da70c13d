from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.archive import unpack
from contract.config import ConfigError
from fleet.bundle import ARCHITECTURES, PYTHONS, BundleKind, NodeFiles, Order, Target, make_bundle, plan, read_about
from fleet.bundle.node import node_files as read_node_files
from fleet.bundle.wheels import Wheel
from fleet.bundle.wheels import unpack as unpack_wheel
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.bundle import Bundle
    from tests.fleet.bundle.conftest import Workshop

ROOT = Path(__file__).parents[3]
RUNTIMES = {"tflite-runtime", "ai-edge-litert"}
AARCH64 = Target("arm64", "3.11")


def names(target: Target) -> set[str]:
    return {line.name for line in plan(target)}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("python", PYTHONS)
def test_each_target_has_the_runtime_of_its_python_where_there_is_one(arch: Any, python: Any) -> None:
    of_python = {"3.11": {"tflite-runtime"}, "3.13": {"ai-edge-litert"}}[python]
    assert names(Target(arch, python)) & RUNTIMES == (set() if (arch, python) == ("armhf", "3.13") else of_python)


@pytest.mark.parametrize("python", PYTHONS)
def test_on_32_bits_debian_has_what_pypi_has_not(python: Any) -> None:
    target = Target("armhf", python)
    assert not names(target) & target.from_debian().keys()
    assert target.from_debian().keys() <= names(Target("arm64", python))


def test_every_library_of_a_lock_has_a_hash() -> None:
    assert all("--hash=sha256:" in line.text for python in PYTHONS for line in plan(Target("amd64", python)))


@pytest.mark.parametrize("kind", BundleKind)
def test_the_same_inputs_give_the_same_bytes(kind: BundleKind, workshop: Workshop, node_files: NodeFiles) -> None:
    files = None if kind is BundleKind.UPDATE else node_files
    first, second = workshop.once(kind, files), workshop.make(kind, f"two.{kind}", files)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert not [path for path in workshop.folder.iterdir() if path.name.startswith(".")]


def test_other_code_is_another_version(workshop: Workshop, archive: Bundle, tmp_path: Path) -> None:
    lock = (workshop.checkout / "requirements/edge.lock").read_text()
    other = workshop.put_checkout(tmp_path / "other", lock, "print('changed')\n")
    order = Order(BundleKind.UPDATE, workshop.target)
    made = make_bundle(order, tmp_path / "out", workshop.wheels, other)
    assert made.version != archive.version
    assert made.version.startswith("0.1.0+")


def test_an_update_is_the_code_and_the_name_of_its_libraries(workshop: Workshop, tmp_path: Path) -> None:
    made = workshop.once(BundleKind.UPDATE)
    with made.path.open("rb") as file:
        unpack(file, tmp_path, 1 << 20)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["version"] == made.version
    assert (tmp_path / "deps").read_text().strip() == manifest["deps"]
    assert manifest["packages"] == [{"name": "greeting", "version": "1.0", "sha256": made.wheels[0].sha256}]
    assert {path.name for path in (tmp_path / "lib").iterdir()} == {"contract", "edge"}
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_whole_update_brings_its_libraries(workshop: Workshop, tmp_path: Path) -> None:
    order = Order(BundleKind.UPDATE, workshop.target, whole=True)
    made = make_bundle(order, tmp_path / "update", workshop.wheels, workshop.checkout)
    (tmp_path / "on").mkdir()
    with made.path.open("rb") as file:
        unpack(file, tmp_path / "on", 1 << 20)
    assert (tmp_path / "on/lib/greeting.py").is_file()
    assert not (tmp_path / "on/deps").exists()


def test_a_wheel_with_another_hash_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    lock = f"greeting==1.0 \\\n    --hash=sha256:{'0' * 64}\n"
    checkout = workshop.put_checkout(tmp_path / "checkout", lock)
    with pytest.raises(FleetError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        make_bundle(Order(BundleKind.TAR, AARCH64), tmp_path / "out", workshop.wheels, checkout)
    assert [path.name for path in tmp_path.iterdir()] == ["checkout"]


def test_a_wheel_for_another_processor_is_not_taken(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    lock = workshop.put_wheel(tmp_path / "wheels", "fast", "cp311-cp311-manylinux_2_17_x86_64", {"fast.py": ""})
    checkout = workshop.put_checkout(tmp_path / "checkout", lock)
    made = make_bundle(
        Order(BundleKind.UPDATE, Target("amd64", "3.11")), tmp_path / "out", tmp_path / "wheels", checkout
    )
    assert [wheel.name for wheel in made.wheels] == ["fast"]
    with pytest.raises(FleetError, match=r"fast==1\.0"):
        make_bundle(Order(BundleKind.UPDATE, AARCH64), tmp_path / "out", tmp_path / "wheels", checkout)


@pytest.mark.parametrize("name", ["../out.py", "/out.py", "a/../../out.py", "a\\..\\out.py"])
def test_a_wheel_that_leads_out_is_refused(name: str, workshop: Workshop, tmp_path: Path) -> None:
    workshop.put_wheel(tmp_path, "evil", "py3-none-any", {name: "x"})
    path = tmp_path / "evil-1.0-py3-none-any.whl"
    with pytest.raises(FleetError, match="leads out of the wheel"):
        unpack_wheel(Wheel("evil", "1.0", "", path), tmp_path / "on")
    assert not (tmp_path / "out.py").exists()


def test_wheels_that_disagree_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    for name, content in (("one", "1"), ("two", "2")):
        workshop.put_wheel(tmp_path, name, "py3-none-any", {"same.py": content})
    unpack_wheel(Wheel("one", "1.0", "", tmp_path / "one-1.0-py3-none-any.whl"), tmp_path / "on")
    with pytest.raises(FleetError, match=r"a different same\.py"):
        unpack_wheel(Wheel("two", "1.0", "", tmp_path / "two-1.0-py3-none-any.whl"), tmp_path / "on")


def test_what_a_wheel_keeps_for_site_packages_goes_there(workshop: Workshop, tmp_path: Path) -> None:
    files = {"w-1.0.data/platlib/inner.py": "x", "w-1.0.data/scripts/tool": "y"}
    workshop.put_wheel(tmp_path, "w", "py3-none-any", files)
    unpack_wheel(Wheel("w", "1.0", "", tmp_path / "w-1.0-py3-none-any.whl"), tmp_path / "on")
    assert sorted(path.name for path in (tmp_path / "on").iterdir()) == ["inner.py", "w-1.0.dist-info"]


def test_a_package_is_one_to_dpkg(workshop: Workshop, node_files: NodeFiles, tmp_path: Path) -> None:
    made = workshop.once(BundleKind.DEB, node_files)
    fields = subprocess.run(
        ("dpkg-deb", "--field", made.path, "Version", "Architecture", "Depends"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    minor = int(workshop.target.python.split(".")[1])
    assert f"Version: {made.version}\nArchitecture: amd64\n" in fields
    assert f"python3 (>= 3.{minor}), python3 (<< 3.{minor + 1})" in fields
    subprocess.run(("dpkg-deb", "--raw-extract", made.path, tmp_path / "on"), check=True)
    sums = subprocess.run(("md5sum", "--quiet", "-c", "DEBIAN/md5sums"), cwd=tmp_path / "on", check=False)
    assert sums.returncode == 0
    assert (tmp_path / "on/usr/lib/headwater/node/enrol.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "on/usr/lib/headwater/node").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "on/usr/lib/headwater/setup").stat().st_mode & 0o777 == 0o755


def test_a_bundle_says_for_what_it_is(workshop: Workshop, archive: Bundle, tmp_path: Path) -> None:
    assert read_about(archive.path).version == archive.version
    assert read_about(archive.path).target == workshop.target
    assert read_about(archive.path).node == "pi-1"
    (tmp_path / "about").write_text("VERSION=1\nARCH=arm64\nPYTHON=3.11\n")
    with tarfile.open(tmp_path / "older", "w:gz") as tar:
        tar.add(tmp_path / "about", "about")
    with pytest.raises(FleetError, match="was made by an older fleet"):
        read_about(tmp_path / "older")
    (tmp_path / "no").write_bytes(b"no bundle")
    with pytest.raises(FleetError, match="is no bundle"):
        read_about(tmp_path / "no")


def test_a_configuration_of_another_node_is_refused() -> None:
    example = ROOT / "edge/examples/edge.yaml"
    assert read_node_files("edge-1", "demo", example, None).files["edge.yaml"] == example.read_bytes()
    with pytest.raises(ConfigError, match="node is 'edge-1', and it is for pi-1"):
        read_node_files("pi-1", "demo", example, None)


def test_a_configuration_that_the_agent_refuses_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text("node: pi-1\ngroup: plant\nsourcess: []\n")
    with pytest.raises(ConfigError, match="sourcess"):
        read_node_files("pi-1", "plant", path, None)
    with pytest.raises(ConfigError) as caught:
        read_node_files("pi-1", "plant", tmp_path / "none.yaml", None)
    assert str(caught.value) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"


def test_models_are_taken_with_their_names_and_no_links(tmp_path: Path) -> None:
    (tmp_path / "level").mkdir()
    (tmp_path / "level/manifest.json").write_text("{}")
    assert read_node_files("pi-1", "plant", None, tmp_path).files == {"models/level/manifest.json": b"{}"}
    (tmp_path / "level/key").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="neither a file nor a directory"):
        read_node_files("pi-1", "plant", None, tmp_path)


def test_secrets_are_not_in_what_is_printed_of_an_object(node_files: NodeFiles) -> None:
    assert "secret" not in repr(node_files)


def test_scripts_of_the_device_are_clean() -> None:
    scripts = [path for path in (ROOT / "fleet/bundle/device").iterdir() if path.suffix not in {".service", ".conf"}]
    assert len(scripts) > 5
    for script in scripts:
        checked = subprocess.run(("sh", "-n", script), capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_units_name_what_bundles_bring() -> None:
    unit = (ROOT / "edge/examples/headwater-edge.service").read_text()
    assert re.search(r"^ExecStart=/usr/bin/python3 -I /usr/lib/headwater/launcher\.py ", unit, re.MULTILINE)
    assert "ExecStartPre=-/usr/lib/headwater/prune-cache" in unit.splitlines()
    enrol = (ROOT / "fleet/bundle/device/headwater-enrol.service").read_text()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "User=headwater"):
        assert line in unit.splitlines()
        assert line in enrol.splitlines()
