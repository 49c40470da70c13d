"""`fleet install` against a real sshd on loopback; what would change this machine is a stand-in."""

from __future__ import annotations

import getpass
import json
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from contract.config import ConfigError
from fleet.__main__ import main
from fleet.bundle import BundleKind, Target
from fleet.errors import FleetError
from fleet.install import Choices, Device, Remote, install, look_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.bundle import Bundle
    from tests.fleet.bundle.conftest import Machine, Workshop

SSHD = shutil.which(os.environ.get("HEADWATER_SSHD", "sshd"), path=f"{os.environ['PATH']}:/usr/sbin")
DEADLINE_S = 20
ROOT = Path(__file__).parents[3]
# Root's sshd wants a user of that name, whom a machine without openssh-server has not: it gets a passwd of its own.
AS_ROOT = """\
set -eu
mkdir -p /run/sshd
cp /etc/passwd "$1/passwd"
grep -q '^sshd:' "$1/passwd" || echo 'sshd:x:64123:65534::/run/sshd:/usr/sbin/nologin' >>"$1/passwd"
mount --bind "$1/passwd" /etc/passwd
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """A machine that is reached as `pi`."""

    machine: Machine
    folder: Path

    @property
    def options(self) -> list[str]:
        return ["--ssh-config", str(self.folder / "ssh_config"), "--wait", "5"]

    def left(self) -> list[Path]:
        """What of the copied is still there."""
        return list((self.folder / "tmp").iterdir())


def read_until(descriptor: int, wanted: bytes) -> None:
    """Reads a terminal until something was written there."""
    seen, deadline = b"", time.monotonic() + DEADLINE_S
    while wanted not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(descriptor, 4096)


def make_key(path: Path) -> None:
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path), check=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def write_settings(folder: Path, machine: Machine, port: int) -> None:
    environment = {**machine.environment, "STAND_IN_UID": "1000", "TMPDIR": str(folder / "tmp")}
    words = " ".join(f'"{name}={value}"' for name, value in environment.items())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PasswordAuthentication no\nStrictModes no\nUsePAM no\nPidFile none\nSetEnv {words}\n"
    )
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "ssh_config").write_text(
        f"Host pi\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {folder}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("sshd does not listen")


@pytest.fixture
def reached(machine: Machine, tmp_path: Path) -> Iterator[Reached]:
    if SSHD is None:
        pytest.skip("no sshd here: apt-get install openssh-server, or HEADWATER_SSHD names one")
    folder = tmp_path / "ssh"
    (folder / "tmp").mkdir(parents=True)
    for name in ("host", "user"):
        make_key(folder / name)
    port = free_port()
    write_settings(folder, machine, port)
    command = (str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config"))
    if os.geteuid() == 0:
        command = ("unshare", "--mount", "sh", "-c", AS_ROOT, "sh", str(folder), *command)
    with (folder / "sshd.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_for(port, process)
            yield Reached(machine, folder)
        finally:
            process.terminate()


def test_a_bundle_is_installed_and_the_agent_says_how_it_is(
    reached: Reached, archive: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", "pi", "--bundle", str(archive.path), "--json", *reached.options]) == 0
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert (told["installed"], told["arch"]) == (True, "amd64")
    assert told["health"]["uplink"]["connected"] is True
    assert "copied 100 %" in err
    root = reached.machine.root
    assert (root / "opt/headwater/current").readlink().name == archive.version
    assert (root / "etc/headwater/enrol.json").stat().st_mode & 0o777 == 0o600
    # One sudo, which nobody could have been asked for.
    assert [line.split()[0] for line in (root / "sudo").read_text().splitlines()] == ["-n"]
    assert reached.left() == []


def test_an_agent_that_does_not_come_up_is_a_failure(
    reached: Reached, archive: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    reached.machine.put("systemctl", '[ "$1" != is-active ] || echo "failed\x1b[2J"')
    reached.machine.put("headwater-edge", "exit 1")
    assert main(["install", "pi", "--bundle", str(archive.path), *reached.options[:2], "--wait", "1"]) == 1
    assert "systemd calls it unknown" in capfd.readouterr().out


def test_what_a_device_answers_without_end_is_cut_off(reached: Reached) -> None:
    with Remote.connect("pi", reached.folder / "ssh_config") as remote, pytest.raises(FleetError, match="more than"):
        remote.ask("exec cat /dev/zero")


def test_who_sits_there_is_asked_for_the_password_of_sudo(reached: Reached, archive: Bundle) -> None:
    """Its question ends with no line, and is seen all the same; it is answered to the device, and not to us."""
    reached.machine.put(
        "sudo",
        'printf "password of pi: " >/dev/tty; read -r word </dev/tty; [ "$word" = open ] && STAND_IN_UID=0 exec "$@"',
    )
    ours, theirs = pty.openpty()
    words = ("-m", "fleet", "install", "pi", "--bundle", archive.path, "--json", *reached.options)
    with subprocess.Popen(
        (sys.executable, *words), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, start_new_session=True
    ) as process:
        os.close(theirs)
        read_until(ours, b"password of pi: ")
        os.write(ours, b"open\n")
        read_until(ours, b"is set up")
        assert process.stdout is not None
        told = json.loads(process.stdout.read())
    os.close(ours)
    assert (process.returncode, told["installed"]) == (0, True)


def test_an_unknown_host_is_refused(reached: Reached, archive: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    (reached.folder / "known_hosts").write_text("")
    assert main(["install", "pi", "--bundle", str(archive.path), *reached.options]) == 1
    err = capfd.readouterr().err
    assert "Host key verification failed" in err
    assert "fleet: pi: no connection" in err
    assert list(reached.machine.root.iterdir()) == []


def test_what_fails_leaves_no_secret_behind(
    reached: Reached, archive: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    reached.machine.put("useradd", "echo no more users >&2; exit 1")
    assert main(["install", "pi", "--bundle", str(archive.path), *reached.options]) == 1
    err = capfd.readouterr().err
    assert "no more users" in err
    assert "pi: installing failed with 1" in err
    assert reached.left() == []


class CutOff:
    """A connection that goes while something is copied."""

    destination = "pi"

    def ask(self, command: str) -> str:
        if not command.startswith("mktemp"):
            raise FleetError(f"pi: no connection for {command}")
        return "/tmp/tmp.folder\n"

    def send(self, *_: object) -> None:
        raise FleetError("pi: the connection ended after 7 bytes")


def test_what_went_wrong_is_told_though_nothing_can_be_cleaned_up_after_it(archive: Bundle) -> None:
    told: list[str] = []
    device = Device(Target("amd64", "3.11"), is_root=True)
    with pytest.raises(FleetError, match="the connection ended after 7 bytes"):
        install(cast("Remote", CutOff()), device, archive.path, Choices(), told.append)
    assert told == ["/tmp/tmp.folder is left on pi: delete it, it may hold a token"]


class Unprivileged:
    """A device on which somebody may log in, and nothing else."""

    destination = "pi"

    def __init__(self, uid: int, sudo: str) -> None:
        self._told = f"arch=amd64\npython=3.11\nuid={uid}\nsudo={sudo}\n"

    def ask(self, _command: str) -> str:
        return self._told


def test_nothing_is_made_for_a_device_on_which_nobody_may_install() -> None:
    with pytest.raises(FleetError, match="pi: is not root there, and there is no sudo: root@HOST, or install sudo"):
        look_at(cast("Remote", Unprivileged(1000, "")))
    assert look_at(cast("Remote", Unprivileged(0, ""))).is_root
    assert not look_at(cast("Remote", Unprivileged(1000, "/usr/bin/sudo"))).is_root


def test_what_is_wrong_here_is_told_before_anybody_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no ssh
    assert main(["install", "pi", "--bundle", str(tmp_path / "none")]) == 1
    assert "none: cannot be read" in capsys.readouterr().err
    assert main(["install", "pi", "pi-1", "--home", str(tmp_path)]) == 2
    assert "is no fleet's directory" in capsys.readouterr().err


def test_a_bundle_for_another_device_is_not_even_copied(
    reached: Reached, workshop: Workshop, capfd: pytest.CaptureFixture[str]
) -> None:
    other = workshop.make(BundleKind.TAR, "arm.tar.gz", target=Target("arm64", workshop.target.python))
    assert main(["install", "pi", "--bundle", str(other.path), *reached.options]) == 1
    assert "is for arm64" in capfd.readouterr().err


def test_a_dry_run_looks_and_does_nothing(reached: Reached, archive: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "pi", "--bundle", str(archive.path), "--dry-run", "--json", *reached.options]) == 0
    assert json.loads(capfd.readouterr().out)["installed"] is False
    assert list(reached.machine.root.iterdir()) == []


@pytest.mark.parametrize("destination", ["-oProxyCommand=touch x", "pi;reboot", "a b", "", "$(x)"])
def test_a_destination_is_no_option_and_no_command(destination: str) -> None:
    with pytest.raises(ConfigError, match="allowed: "), Remote.connect(destination):
        pass


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "give either NODE"),
        (["pi-1", "--bundle", "x"], "give either NODE"),
        (["--bundle", "x", "--baked"], "give NODE instead"),
        (["pi-1", "--data", "$(reboot)"], "--data: found"),
    ],
)
def test_wrong_use_of_install_is_told(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "pi", *arguments]) == 2
    assert fault in capsys.readouterr().err


def test_a_host_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "ssh_config").write_text(f"Host pi\n  HostName 127.0.0.1\n  Port {free_port()}\n")
    with Remote.connect("pi", tmp_path / "ssh_config") as remote, pytest.raises(FleetError, match="no connection"):
        remote.ask("true")
