"""A small checkout, wheels of a few lines, and a machine with stand-ins for what would change this one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.bundle import Bundle, BundleKind, NodeFiles, Order, Target, make_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
# An agent that says what it would do.
AGENT = """\
import json, os, sys
import contract, greeting
arguments = sys.argv[1:]
if "status" in arguments:
    print(json.dumps({"node": "plant/pi-1", "version": contract.__version__, "uplink": {"connected": True}}))
else:
    print(json.dumps({"arguments": arguments, "says": greeting.WORD, "path": sys.path[:2]}))
"""
# Programs that change a device, before each of which the power may fail.
CHANGING = ("cp", "mv", "mkdir", "ln", "rm", "chmod", "touch", "tar", "chown", "systemctl", "setpriv")
# What a first start finds: nothing of this may be done to the machine that the tests run on.
STAND_INS = {
    "getent": "exit 2",
    "useradd": "exit 0",
    "chown": "exit 0",
    "id": 'if [ "${1-}" = -u ]; then echo ${STAND_IN_UID-0}; else exit 1; fi',
    "dpkg": 'if [ "$1" = --print-architecture ]; then echo amd64; else exit 1; fi',
    "systemctl": 'echo "$*" >>"$HEADWATER_PREFIX/systemctl"',
    # There is one user, and its terminal.
    "setpriv": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "setsid": 'shift; exec "$@"',
    # The kernel of a test needs no patience.
    "sync": "exit 0",
    "sudo": 'echo "$*" >>"$HEADWATER_PREFIX/sudo"; [ "$1" != -n ] || shift; STAND_IN_UID=0 exec "$@"',
}


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes bundles of a checkout and wheels of a test's own."""

    folder: Path
    checkout: Path
    wheels: Path
    target: Target
    _made: dict[BundleKind, Bundle] = field(default_factory=dict)

    def once(self, kind: BundleKind, files: NodeFiles | None = None) -> Bundle:
        """One of a kind that tests share, for each takes pip a while."""
        if kind not in self._made:
            self._made[kind] = self.make(kind, f"once.{kind}", files)
        return self._made[kind]

    def make(self, kind: BundleKind, name: str, files: NodeFiles | None = None, target: Target | None = None) -> Bundle:
        order = Order(kind, target or self.target, None if files is None else "pi-1", files)
        return make_bundle(order, self.folder / name, self.wheels, self.checkout)

    @staticmethod
    def put_wheel(folder: Path, name: str, tag: str, files: dict[str, str]) -> str:
        """A wheel of version 1.0; returns its line for a lock file."""
        path = folder / f"{name}-1.0-{tag}.whl"
        info = f"{name}-1.0.dist-info"
        metadata = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/RECORD": "",
        }
        with zipfile.ZipFile(path, "w") as archive:
            for place, content in {**files, **metadata}.items():
                archive.writestr(zipfile.ZipInfo(place), content)
        return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    @staticmethod
    def put_checkout(folder: Path, lock: str, agent: str = AGENT) -> Path:
        """What bundles are made from."""
        (folder / "requirements").mkdir(parents=True)
        for name in ("edge.lock", "edge-3.13.lock"):
            (folder / "requirements" / name).write_text(lock)
        for package in ("contract", "edge"):
            (folder / package).mkdir()
        (folder / "contract/__init__.py").write_text('__version__ = "0.1.0"\n')
        (folder / "edge/__init__.py").write_text("")
        (folder / "edge/__main__.py").write_text(agent)
        (folder / "edge/__pycache__").mkdir()
        (folder / "edge/__pycache__/left.pyc").write_bytes(b"of another day")
        shutil.copy(ROOT / "edge/launcher.py", folder / "edge/launcher.py")
        shutil.copytree(ROOT / "edge/examples", folder / "edge/examples")
        return folder


@dataclass(slots=True)
class Machine:
    """A directory for a root, in which scripts of a device run."""

    root: Path
    bin: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.bin.mkdir(parents=True)
        self.root.mkdir()
        for name, script in STAND_INS.items():
            self.put(name, script)
        self.environment = {
            "PATH": f"{self.bin}:{self.root}/usr/bin:{os.environ['PATH']}",
            "HEADWATER_PREFIX": str(self.root),
            "HEADWATER_ROOT": str(self.root / "opt/headwater"),
            "PYTHONPYCACHEPREFIX": str(self.root / "var/cache/headwater"),
        }

    def put(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def run_alone(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """In a session of its own, of which a cut leaves nothing."""
        return self.run(str(shutil.which("setsid")), "--wait", *command)

    def cut_at(self, change: int) -> None:
        """Has the power fail before the n-th change from now on; 0: it does not, and changes are counted."""
        count = self.bin / "count"
        count.write_text(f"{change}\n")
        for name in CHANGING:
            real = self.bin / f"real-{name}"
            if real.exists():
                continue
            if (self.bin / name).exists():
                (self.bin / name).rename(real)
            else:
                real.symlink_to(str(shutil.which(name)))
            self.put(
                name,
                # One at a time: both ends of a pipe are counted.
                f'exec 8>"{count}.lock"; flock 8; read -r n <"{count}"; echo $((n - 1)) >"{count}"; exec 8>&-\n'
                # Nothing that was started outlives it.
                f'[ "$n" != 1 ] || kill -9 0\nexec "{real}" "$@"',
            )

    def changes(self) -> int:
        """How many there were since."""
        return -int((self.bin / "count").read_text())

    def told_systemctl(self) -> list[str]:
        path = self.root / "systemctl"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    wheels = folder / "wheels"
    wheels.mkdir()
    python = subprocess.run(
        ("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    lock = Workshop.put_wheel(wheels, "greeting", "py3-none-any", {"greeting.py": 'WORD = "hello"\n'})
    return Workshop(folder, Workshop.put_checkout(folder / "checkout", lock), wheels, Target.parse("amd64", python))


@pytest.fixture(scope="session")
def node_files() -> NodeFiles:
    return NodeFiles(
        {"edge.yaml": b"node: pi-1\n", "enrol.json": b'{"token": "secret"}\n', "models/level/manifest.json": b"{}\n"}
    )


@pytest.fixture(scope="session")
def archive(workshop: Workshop, node_files: NodeFiles) -> Bundle:
    return workshop.once(BundleKind.TAR, node_files)


@pytest.fixture(scope="session")
def machine_in() -> Callable[[Path], Machine]:
    """Makes one in a directory."""
    return lambda folder: Machine(folder / "root", folder / "bin")


@pytest.fixture
def machine(tmp_path: Path, machine_in: Callable[[Path], Machine]) -> Machine:
    return machine_in(tmp_path)
