"""Debian's dockerd, with everything it has below .stack/docker.

It runs in a network namespace of its own, so that its bridges and packet filters are not this machine's, and reaches
the registries through slirp4netns, a TCP/IP stack in a process: nothing of this machine's network is changed. What it
publishes is published in that namespace, which containers on the network `host` share.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack.docker.emulation import emulated
from stack.errors import ServerError, StackError
from stack.install import STACK_DIR
from stack.process import Command, ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

DIRECTORY: Final = STACK_DIR / "docker"
_INSTALL: Final = Path(__file__).with_name("install.sh")
_INSTALL_TIMEOUT_S: Final = 1800.0
_START_TIMEOUT_S: Final = 30.0
_COMMAND_TIMEOUT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Docker:
    """The `docker` command, talking to one engine."""

    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
        """What a command prints; raises StackError with what it said where it failed."""
        done = self.run(*arguments, stdin=stdin, timeout_s=timeout_s)
        if done.returncode:
            raise StackError(f"docker {arguments[0]} ended with status {done.returncode}:\n{done.stderr.decode()}")
        return done.stdout.decode()

    def run(
        self, *arguments: str, stdin: bytes | None = None, timeout_s: float = _COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[bytes]:
        """What came of a command, whatever it was."""
        return subprocess.run(  # noqa: S603  # our own command
            ["docker", *arguments],  # noqa: S607  # the one in the PATH that `env` says
            env={**os.environ, **self.env},
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def answers(self) -> bool:
        """Whether its engine is there."""
        return self.run("info", "--format", "{{.ServerVersion}}", timeout_s=20).returncode == 0


def working_engine() -> Docker | None:
    """The engine that this machine has, with Compose; None where it has none."""
    try:
        docker = Docker()
        return docker if docker.answers() and docker.run("compose", "version").returncode == 0 else None
    except FileNotFoundError:
        return None


class Engine:
    """A context manager over an engine of our own; needs root. What it has built is kept for the next time."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        root = directory / "root/usr"
        libraries = root / f"lib/{os.uname().machine}-linux-gnu"
        self._env = {
            "PATH": f"{root / 'bin'}:{root / 'sbin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(libraries),
            "XTABLES_LIBDIR": str(libraries / "xtables"),
        }
        self.docker = Docker(
            {
                "PATH": self._env["PATH"],
                "DOCKER_HOST": f"unix://{directory / 'docker.sock'}",
                "DOCKER_CONFIG": str(directory / "config"),
            }
        )
        self._running: list[ManagedProcess] = []

    def start(self) -> None:
        """Installs what is missing, and starts it; raises StackError where we are not root, and ServerError."""
        if os.geteuid() != 0:
            raise StackError("a Docker engine of our own needs root: be that, or start this machine's")
        self._once("install.sh", [str(_INSTALL)])
        # It holds the namespace, which goes when nobody is left in it.
        holder = self._launch("network namespace", ["unshare", "--net", "sleep", "infinity"])
        inside = f"--net=/proc/{holder.pid}/ns/net"
        holder.wait_ready(lambda: self._has_namespace(holder), timeout_s=_START_TIMEOUT_S)
        self._once("loopback", ["nsenter", inside, "ip", "link", "set", "lo", "up"])
        way_out = ["slirp4netns", "--configure", "--mtu=1400", "--disable-host-loopback", "--netns-type=path"]
        self._launch("slirp4netns", [*way_out, f"/proc/{holder.pid}/ns/net", "tap0"])
        dockerd = self._launch("dockerd", ["nsenter", inside, "unshare", "--mount", "dockerd", *self._options()])
        dockerd.wait_ready(self.docker.answers, timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """Stops it and all its containers."""
        for process in reversed(self._running):
            process.stop(timeout_s=60.0)
        self._running.clear()

    @contextmanager
    def foreign(self, architecture: str) -> Iterator[Path]:
        """While it lasts programs of another Debian architecture run here; a small Debian of those, as a tar."""
        self._once("qemu", [str(_INSTALL), "emulation"])
        with emulated(architecture):
            self._once(f"a Debian of {architecture}", [str(_INSTALL), "rootfs", architecture])
            yield self.directory / f"rootfs-{architecture}.tar"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _options(self) -> list[str]:
        return [
            f"--data-root={self.directory / 'data'}",
            f"--exec-root={self.directory / 'exec'}",
            f"--host=unix://{self.directory / 'docker.sock'}",
            f"--pidfile={self.directory / 'dockerd.pid'}",
            f"--init-path={self.directory / 'root/usr/bin/tini-static'}",
        ]

    def _launch(self, name: str, argv: list[str]) -> ManagedProcess:
        log = self.directory / f"{name.replace(' ', '-')}.log"
        process = ManagedProcess(name, Command(argv, env=self._env), log_path=log)
        self._running.append(process)
        process.start()
        return process

    def _once(self, name: str, argv: list[str]) -> None:
        done = subprocess.run(  # noqa: S603  # our own command
            argv,
            env={**os.environ, **self._env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            log = self.directory / "engine.log"
            raise ServerError("Docker", f"could not be made ready: {name}", log, done.stdout + done.stderr)

    @staticmethod
    def _has_namespace(holder: ManagedProcess) -> bool:
        """Whether it has left our namespace: setpriv and unshare are run in turn by one process."""
        try:
            return Path(f"/proc/{holder.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        except OSError:
            return False
