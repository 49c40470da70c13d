"""Installations that come half way: what is left of them, and what goes on with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fleet.bundle import first_boot_script

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.bundle import Bundle
    from tests.fleet.bundle.conftest import Machine

MOUNTS = ("opt-headwater.mount", "etc-headwater.mount", "var-lib-headwater.mount")
START = "--no-block start headwater-enrol.service headwater-edge.service"
RESTART = "--no-block restart headwater-enrol.service headwater-edge.service"


@pytest.fixture
def card(tmp_path: Path, archive: Bundle, machine: Machine) -> Path:
    folder = tmp_path / "card"
    folder.mkdir()
    shutil.copy(archive.path, folder / "headwater.tar.gz")
    (folder / "first-boot.sh").write_bytes(first_boot_script())
    (machine.root / "run/systemd/system").mkdir(parents=True)
    return folder


def dies_once_at(machine: Machine, words: str) -> None:
    """Has the power fail where systemctl is told this."""
    told = 'echo "$*" >>"$HEADWATER_PREFIX/systemctl"'
    dies = f'[ "$*" != "{words}" ] || [ -e {machine.bin}/died ] || {{ touch {machine.bin}/died; kill -9 0; }}'
    machine.put("systemctl", f"{dies}\n{told}")


@pytest.mark.parametrize("unit", MOUNTS)
def test_a_mount_that_was_written_and_not_enabled_is_enabled_the_next_time(
    unit: str, machine: Machine, card: Path, tmp_path: Path
) -> None:
    dies_once_at(machine, f"enable {unit}")
    first_boot = ("sh", card / "first-boot.sh", "--data", tmp_path / "data", card)
    assert machine.run_alone(*first_boot).returncode != 0
    assert (machine.root / "etc/systemd/system" / unit).exists()
    assert machine.run_alone(*first_boot).returncode == 0
    told = machine.told_systemctl()
    for each in MOUNTS:
        assert told.index(f"enable {each}") < len(told) - 1 - told[::-1].index(f"start {each}")


def test_a_first_boot_that_was_written_down_and_not_enabled_is_enabled_the_next_time(
    machine: Machine, card: Path
) -> None:
    dies_once_at(machine, "enable headwater-first-boot.service")
    assert machine.run_alone("sh", card / "first-boot.sh", card).returncode != 0
    assert (machine.root / "etc/systemd/system/headwater-first-boot.service").exists()
    assert machine.run_alone("sh", card / "first-boot.sh", card).returncode == 0
    assert "enable headwater-first-boot.service" in machine.told_systemctl()


@pytest.mark.parametrize("failing", ["mv", "sha256sum", "useradd"])
def test_the_agent_of_before_runs_after_an_installation_that_fails(failing: str, machine: Machine, card: Path) -> None:
    """And nothing of it is left that takes room or holds a token."""
    again = ("sh", card / "first-boot.sh", "--again", card)
    assert machine.run(*again).returncode == 0
    (machine.root / "systemctl").unlink()
    shutil.rmtree(machine.root / "opt/headwater/deps")
    real = shutil.which(failing)
    machine.put(failing, f'case "$*" in */usr/*) exec {real} "$@";; esac; exit 1')
    assert machine.run(*again).returncode != 0
    told = machine.told_systemctl()
    # Before the agent is stopped there is nothing to be started.
    assert told[-1:] == ([] if failing == "useradd" else [START])
    assert not (machine.root / "opt/.headwater-incoming").exists()
    assert not list((machine.root / "opt/headwater").glob("*/*.partial"))


def test_the_agent_is_stopped_once_and_started_once(machine: Machine, card: Path) -> None:
    """In between there is nothing that would leave it stopped."""
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode == 0
    told = machine.told_systemctl()
    assert [words for words in told if words.split()[-1] == "headwater-edge.service"][-1] == RESTART
    assert len([words for words in told if words.startswith("stop ")]) == 1
    assert len([words for words in told if "start" in words]) == 1


@pytest.mark.parametrize("place", ["opt/.headwater-incoming", "opt/headwater"])
def test_what_would_not_fit_is_not_begun(place: str, machine: Machine, card: Path) -> None:
    real = shutil.which("df")
    machine.put("df", f'case "$*" in */{place}) printf "Avail\\n   7\\n";; *) exec {real} "$@";; esac')
    done = machine.run("sh", card / "first-boot.sh", card)
    assert done.returncode != 0
    assert "0 MiB left" in done.stderr
    assert not (machine.root / "opt/.headwater-incoming").exists()
    assert not list((machine.root / "opt/headwater").rglob("lib"))


def test_a_model_that_is_not_copied_whole_is_none(machine: Machine, card: Path) -> None:
    real = shutil.which("tar")
    machine.put("tar", f'case "$*" in *.level.partial*) exec cat >/dev/null;; *) exec {real} "$@";; esac')
    done = machine.run("sh", card / "first-boot.sh", card)
    assert (done.returncode, "model level could not be copied whole" in done.stderr) == (1, True)
    assert list((machine.root / "var/lib/headwater/models").iterdir()) == []
    machine.put("tar", f'exec {real} "$@"')
    assert machine.run("sh", card / "first-boot.sh", card).returncode == 0
    assert (machine.root / "var/lib/headwater/models/level/manifest.json").exists()


@pytest.mark.parametrize("agent", ["exec sleep 60", "exit 1", "exec cat /dev/zero"])
def test_whatever_the_agent_does_its_health_is_there_in_time(agent: str, machine: Machine, card: Path) -> None:
    assert machine.run("sh", card / "first-boot.sh", card).returncode == 0
    machine.put("headwater-edge", agent)
    machine.put("systemctl", "echo active")
    script = card.parent / "first-health.sh"
    shutil.copy("fleet/bundle/device/first-health.sh", script)
    begun = time.monotonic()
    done = subprocess.run(
        ("sh", script, "2"), env=machine.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == '{"state": "active"}\n'
    # Patience with a machine that is busy; each answer alone would have had half a minute once.
    assert time.monotonic() - begun < 20


def test_the_command_line_has_no_terminal_of_roots_and_is_interrupted_with_it(machine: Machine, card: Path) -> None:
    assert machine.run("sh", card / "first-boot.sh", card).returncode == 0
    seen = card.parent / "seen"
    machine.put("id", 'if [ "$1" = -u ]; then echo 0; fi')
    # Who it becomes looks whose session it has, once it can be ended, and waits.
    ends = f"trap 'kill $!; echo ended >>{seen}; exit 3' TERM; sleep 60 &"
    machine.put("setpriv", f"{ends} cut -d ' ' -f 6 /proc/$$/stat >{seen}; wait")
    machine.put("setsid", f'exec {shutil.which("setsid")} "$@"')
    command = (machine.root / "usr/bin/headwater-edge", "status")
    with subprocess.Popen(command, env=machine.environment) as process:
        deadline = time.monotonic() + 60
        while not (seen.exists() and seen.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert int(seen.read_text()) != os.getsid(process.pid)
        process.terminate()
        assert process.wait(60) == 3
    assert "ended" in seen.read_text()
