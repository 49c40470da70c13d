"""What set-up says about a machine that will not do, before anything is installed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from stack.install import CHECKOUT

BOOTSTRAP = CHECKOUT / "stack/bootstrap.sh"


class Machine:
    """A machine that lies about itself: by files named in the environment, and by programs that come first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}

    def program(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def file(self, variable: str, text: str) -> None:
        path = self.folder / variable.lower()
        path.write_text(text)
        self.env[variable] = str(path)

    def function(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call one of the script's functions."""
        return subprocess.run(
            ["bash", "-c", 'source "$1"; "${@:2}"', "bash", str(BOOTSTRAP), *words],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

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
    machine.program("dpkg-query", "exit 0")  # nothing is installed
    assert "neither root nor able to use sudo" in machine.refusal()


def test_a_32_bit_machine(machine: Machine) -> None:
    machine.program("uname", "echo armv7l")
    assert "this machine's processor is armv7l" in machine.refusal()


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
    log = told.rpartition(" is in ")[2].strip()
    assert "a.mirror" in Path(log).read_text()


def test_pypi_out_of_reach(machine: Machine) -> None:
    machine.env |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": ""}
    told = machine.refusal()
    assert "pip cannot fetch Python packages" in told
    assert "why:  Failed to establish a new connection" in told


LOCKED = "echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (unattended-upgr)' >&2; exit 100"


def test_apt_is_waited_for_while_another_holds_its_lock(machine: Machine) -> None:
    machine.program("id", "echo 0")
    machine.program("apt-get", f'echo x >>"$TMPDIR/asked"; (($(wc -l <"$TMPDIR/asked") > 1)) || {{ {LOCKED}; }}')
    done = machine.function("unlocked", "apt-get", "update")
    assert done.returncode == 0, done.stderr
    assert "waiting for the lock" in done.stdout
    assert "held by process 7" in done.stderr


def test_a_lock_that_is_never_let_go_and_other_errors_end_the_step(machine: Machine) -> None:
    machine.program("id", "echo 0")
    machine.program("apt-get", LOCKED)
    machine.env["HEADWATER_LOCK_S"] = "0"
    assert machine.function("unlocked", "apt-get", "update").returncode == 1
    machine.env["HEADWATER_LOCK_S"] = "300"
    machine.program("apt-get", "echo 'E: Unable to locate package block' >&2; exit 100")
    assert machine.function("unlocked", "apt-get", "install", "block").returncode == 1


def test_a_step_in_the_background_never_waits_for_a_password(machine: Machine) -> None:
    machine.program("id", "echo 1000")
    machine.program("sudo", 'if [[ $1 != -n ]]; then sleep 60; fi; shift 2; exec "$@"')
    assert machine.function("as_root", "echo", "a  b").stdout == "a  b\n"


def test_without_rights_the_rest_of_a_set_up_is_done_when_the_machine_has_its_part(machine: Machine) -> None:
    machine.program("id", "echo 1000")
    machine.program("sudo", "exit 1")
    for there, code in (("return 0", 0), ("return 1", 1)):
        script = f'source "$1"; installed_everything() {{ :; }}; timescaledb_is_there() {{ {there}; }}; check_rights'
        done = subprocess.run(
            ["bash", "-c", script, "bash", str(BOOTSTRAP)],
            env=machine.env,
            check=False,
            capture_output=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, done.stderr


STEPS = ("python", "jars", "mosquitto", "timescaledb")
# What would take minutes, replaced; the order of things, their locks and their failures are the script's own.
STUBS = """
missing_packages() { :; }
preflight() { :; }
check_registries() { :; }
make_venv() { :; }
left_quiet() { return 1; }
needs_rights() { return 1; }
give_to_owner() { :; }
key_of() { say key; }
witness_of() { say "$ROOT/made-$1"; }
timescaledb_is_there() { [[ -e $ROOT/made-timescaledb ]]; }
take() {
    echo "$1" >>"$ROOT/taken"
    [[ $1 != "${HANGS:-}" ]] || sleep 30
    [[ $1 != "${FAILS:-}" ]]
    touch "$ROOT/made-$1"
}
install_python() { take python; }
install_jars() { take jars; }
install_mosquitto() { take mosquitto; }
install_timescaledb() { take timescaledb; }
"""


class Rehearsal:
    """A set-up in a folder of its own whose steps are replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "stack/bootstrap.sh"
        self.script.parent.mkdir()
        head, mark, tail = BOOTSTRAP.read_text().partition("# Sourced, it only")
        self.script.write_text(head + STUBS + mark + tail)
        self.script.chmod(0o755)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.script)],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **environment: str) -> tuple[int, str]:
        process = self.start(**environment)
        said, _ = process.communicate(timeout=30)
        return process.returncode, said

    def taken(self) -> list[str]:
        """The steps taken so far, those of one run in no order."""
        path = self.folder / "taken"
        return path.read_text().split() if path.exists() else []

    def wait_for(self, step: str) -> None:
        deadline = time.monotonic() + 20
        while step not in self.taken():
            assert time.monotonic() < deadline, f"{step} was not begun"
            time.sleep(0.02)


@pytest.fixture
def rehearsal(tmp_path: Path) -> Rehearsal:
    return Rehearsal(tmp_path)


def test_what_runs_keeps_clean_from_removing_its_files(rehearsal: Rehearsal) -> None:
    # The function alone: `--clean` itself would remove what belongs to the whole machine.
    def in_use() -> list[str]:
        command = ["bash", "-c", 'source "$1"; in_use', "bash", str(rehearsal.script)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines()

    run = rehearsal.folder / ".stack/run"
    with subprocess.Popen(["true"]) as gone:
        pass
    for folder in (f"kafka-{gone.pid}-0a1b2c", f"mosquitto-{os.getpid()}-0a1b2c", "demo", "servers"):
        (run / folder).mkdir(parents=True)
    with (run / "demo/.headwater-demo").open("w") as demo, (rehearsal.folder / ".stack/lock").open("w") as set_up:
        assert in_use() == [f"the server in {run}/mosquitto-{os.getpid()}-0a1b2c, for process {os.getpid()}"]
        fcntl.flock(demo, fcntl.LOCK_EX)
        fcntl.flock(set_up, fcntl.LOCK_EX)
        assert in_use()[:2] == ["a set-up", f"the demo in {run}/demo"]
    engine = rehearsal.folder / ".stack/docker/dockerd.pid"
    engine.parent.mkdir()
    engine.write_text(str(os.getpid()))
    assert in_use()[-1] == "the Docker engine of make compose-test"


@pytest.mark.parametrize("step", STEPS)
def test_after_a_failure_the_steps_that_worked_are_kept(rehearsal: Rehearsal, step: str) -> None:
    code, said = rehearsal.run(FAILS=step)
    assert code == 1
    assert f"{step}: FAILED" in said
    assert f"the step '{step}' failed" in said
    assert sorted(rehearsal.taken()) == sorted(STEPS)
    code, said = rehearsal.run()
    assert (code, rehearsal.taken()[4:]) == (0, [step])
    assert rehearsal.run() == (0, "set-up: everything is in place\n")


def test_an_interrupted_set_up_ends_its_steps_and_goes_on_later(rehearsal: Rehearsal) -> None:
    process = rehearsal.start(HANGS="jars")
    rehearsal.wait_for("jars")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)  # nothing holds its output open: the steps are gone
    assert process.returncode == 130
    assert "interrupted" in said
    assert not (rehearsal.folder / "made-jars").exists()
    assert rehearsal.run()[0] == 0


def test_a_set_up_beside_another_waits_and_finds_its_work_done(rehearsal: Rehearsal) -> None:
    first = rehearsal.start(HANGS="jars")
    rehearsal.wait_for("jars")
    second = rehearsal.start()
    assert second.stdout is not None
    while "another set-up is running" not in (line := second.stdout.readline()):
        assert line, "the second did not wait"
    first.terminate()
    first.communicate(timeout=20)
    said, _ = second.communicate(timeout=20)
    assert (second.returncode, rehearsal.taken().count("jars")) == (0, 2)
    assert "done in" in said


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
