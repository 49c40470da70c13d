"""The real agent with its real libraries, installed and run where there is no network; `make bundle-test`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.bundle import BundleKind, Order, Target, first_boot_script, make_bundle

if TYPE_CHECKING:
    from tests.fleet.bundle.conftest import Machine, Workshop

ROOT = Path(__file__).parents[3]
CUT_OFF = ("unshare", "--map-root-user", "--net")
RUNTIMES = {"3.11": "tflite_runtime.interpreter", "3.13": "ai_edge_litert.interpreter"}
pytestmark = pytest.mark.slow


@pytest.fixture
def installed(machine: Machine, workshop: Workshop, tmp_path: Path) -> Machine:
    card = tmp_path / "card"
    card.mkdir()
    make_bundle(Order(BundleKind.TAR, workshop.target), card / "headwater.tar.gz")
    (card / "first-boot.sh").write_bytes(first_boot_script())
    done = machine.run(*CUT_OFF, "sh", card / "first-boot.sh", card)
    assert done.returncode == 0, done.stderr
    return machine


def test_a_bundle_is_all_that_the_agent_needs(installed: Machine, workshop: Workshop) -> None:
    agent = (*CUT_OFF, installed.root / "usr/bin/headwater-edge")
    checked = installed.run(*agent, "check", "--elsewhere", ROOT / "edge/examples/edge.yaml")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("node demo/edge-1, ")
    packages = installed.root / "opt/headwater/deps" / next((installed.root / "opt/headwater/deps").iterdir())
    words = ("/usr/bin/python3", "-P", "-s", "-c", f"import cv2, cryptography, {RUNTIMES[workshop.target.python]}")
    environment = {**installed.environment, "PYTHONPATH": str(packages)}
    imported = subprocess.run((*CUT_OFF, *words), env=environment, capture_output=True, text=True, check=False)
    assert imported.returncode == 0, imported.stderr


@pytest.mark.parametrize(
    "target",
    [Target("arm64", "3.11"), Target("arm64", "3.13"), Target("armhf", "3.11"), Target("armhf", "3.13")],
    ids=str,
)
def test_every_target_can_be_had(target: Target, tmp_path: Path) -> None:
    made = make_bundle(Order(BundleKind.DEB, target), tmp_path / "agent.deb")
    told = subprocess.run(("dpkg-deb", "--info", made.path), capture_output=True, text=True, check=True).stdout
    assert f"Architecture: {target.arch}\n" in told
    assert made.path.stat().st_mode & 0o077 == 0
