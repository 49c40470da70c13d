"""What set-up says about a machine that will not do, before anything is installed."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from stack.install import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

BOOTSTRAP = CHECKOUT / "stack/bootstrap.sh"


class Machine:
    """A machine that lies about itself: by files named in the environment, and by programs that come first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    def program(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def file(self, variable: str, text: str) -> None:
        path = self.folder / variable.lower()
        path.write_text(text)
        self.env[variable] = str(path)

    def check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BOOTSTRAP), "--check"], env=self.env, capture_output=True, text=True, check=False, timeout=120
        )

    def refusal(self) -> str:
        done = self.check()
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stderr.count("why:") == done.stderr.count("do:") == done.stderr.count("set-up:") > 0
        return done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_another_system_is_pointed_at_a_debian(machine: Machine) -> None:
    machine.file("HEADWATER_OS_RELEASE", 'ID=fedora\nVERSION_ID="41"\n')
    assert "this is fedora 41, not Debian 12 or newer" in machine.refusal()


def test_another_system_with_docker_is_pointed_at_compose(machine: Machine) -> None:
    machine.file("HEADWATER_OS_RELEASE", "ID=alpine\nVERSION_ID=3.22\n")
    machine.program("docker", "exit 0")
    assert "compose" in machine.refusal()


def test_an_old_debian_is_refused(machine: Machine) -> None:
    machine.file("HEADWATER_OS_RELEASE", 'ID=debian\nVERSION_ID="11"\nVERSION_CODENAME=bullseye\n')
    assert "debian 11, not Debian 12" in machine.refusal()


def test_neither_root_nor_sudo(machine: Machine) -> None:
    machine.program("id", "echo 1000")
    machine.program("sudo", "exit 1")
    assert "neither root nor able to use sudo" in machine.refusal()


def test_a_32_bit_machine(machine: Machine) -> None:
    machine.program("uname", "echo armv7l")
    assert "this machine is a armv7l" in machine.refusal()


def test_a_full_disk_and_little_memory_are_told_together(machine: Machine) -> None:
    machine.program("df", "printf 'Filesystem blocks Used Available\\n/dev/x 1 1 120\\n'")
    machine.file("HEADWATER_MEMINFO", "MemTotal:  1000000 kB\n")
    told = machine.refusal()
    assert "120 MB of disk are free here" in told
    assert "976 MB of memory, 3800 MB are needed" in told


def test_a_mirror_out_of_reach(machine: Machine) -> None:
    machine.program(
        "apt-get",
        'case "$*" in\n'
        "*--print-uris*) echo \"'http://127.0.0.1:9/debian/dists/$(. /etc/os-release; echo $VERSION_CODENAME)"
        "/InRelease' x 0\" ;;\n"
        '*) exec /usr/bin/apt-get "$@" ;;\nesac',
    )
    told = machine.refusal()
    assert "apt cannot reach Debian's mirror" in told
    assert "127.0.0.1:9" in told


def test_sources_without_the_release(machine: Machine) -> None:
    machine.program("apt-get", "exit 0")
    assert "apt's sources do not have" in machine.refusal()


def test_maven_out_of_reach(machine: Machine) -> None:
    machine.program("mvn", "echo '[ERROR] Unknown host a.mirror'; exit 1")
    told = machine.refusal()
    assert "Maven cannot fetch its plug-ins" in told
    assert "a.mirror" in told


def test_pypi_out_of_reach(machine: Machine) -> None:
    machine.env |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": ""}
    assert "pip cannot fetch Python packages" in machine.refusal()


def test_this_machine_will_do(machine: Machine) -> None:
    done = machine.check()
    assert done.returncode == 0, done.stderr
    assert "can run Headwater" in done.stdout


def test_a_second_set_up_has_nothing_to_do() -> None:
    # Not a set-up itself: when the lock file has just changed, that would alter what these tests run from.
    done = subprocess.run([str(BOOTSTRAP), "--missing"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"python"}


def test_an_unknown_option_is_refused() -> None:
    done = subprocess.run([str(BOOTSTRAP), "--nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
