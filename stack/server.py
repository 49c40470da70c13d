"""What the three servers have in common: a port, a directory, a log, and a life cycle."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import psutil

from stack.errors import PortTakenError, StackError
from stack.install import RUN_DIR
from stack.process import Command, ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from stack.install import Part

LOOPBACK = "127.0.0.1"
_FIRST_PORT = 16_384
# What `Server._new_directory` calls them: a class, a process id, something random.
_TEMPORARY: Final = re.compile(r"[a-z]+-([0-9]+)-[0-9a-f]{6}")
_KEPT_S: Final = 3600.0


def free_port() -> int:
    """A loopback TCP port that was free a moment ago.

    Not one of those that the kernel gives to outgoing connections: a client that tries a dead server's port again and
    again would some day be given that very port, connect to itself, and keep the server from coming back.
    """
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first = min(_FIRST_PORT, outgoing // 2)
    while port_is_taken(port := first + secrets.randbelow(outgoing - first)):
        pass
    return port


def port_is_taken(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    try:
        # SO_REUSEADDR, which create_server sets, passes over our own closed connections in TIME_WAIT.
        with socket.create_server((LOOPBACK, port)):
            return False
    except OSError:
        return True


class Server(ABC):
    """A server on loopback, with all its files in one directory; a context manager.

    The port is chosen once, so a server that is started again listens where it did before. Without a directory it
    gets one below .stack/run/ that is removed in the end; a directory that was given is kept, and a later object of
    the same class over it finds the data. The log is `server.log` in it.
    """

    name: ClassVar[str]
    _start_timeout_s: ClassVar[float] = 60.0

    def __init__(self, *, port: int | None = None, directory: Path | None = None) -> None:
        self.port = free_port() if port is None else port
        self._temporary = directory is None
        self.directory = self._new_directory() if directory is None else directory.resolve()
        self._process = ManagedProcess(self.name, Command([]), log_path=self.log_path)

    @property
    def host(self) -> str:
        """The address it listens on: loopback, always."""
        return LOOPBACK

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def data_dir(self) -> Path:
        """What it stores; `wipe` deletes it."""
        return self.directory / "data"

    @property
    def log_path(self) -> Path:
        """Its log file, continued at every start."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int | None:
        """The server's process id, None before the first start."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process.running

    def poll(self) -> int | None:
        """The exit status of its process, None while it runs or before the first start."""
        return self._process.poll()

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of its log since its last start."""
        return self._process.log_tail(lines)

    def start(self) -> None:
        """Starts it and waits until it serves.

        Raises NotInstalledError, PortTakenError, ServerError with the end of its log, or StackError for its directory.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """The first half of `start`, without the wait: several servers can come up at the same time."""
        if self.running:
            return
        for part in self._parts():
            part.required()
        for port in self._ports():
            if port_is_taken(port):
                raise PortTakenError(self.name, port)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StackError(f"{self.name} cannot have its directory {self.directory}: {exc.strerror}") from exc
        self._prepare()
        self._process.command = self._command()
        self._process.start()

    def wait_ready(self) -> None:
        """The second half of `start`; raises ServerError when it ends or takes too long."""
        self._process.wait_ready(self._probe, timeout_s=self._start_timeout_s)
        self._after_start()

    def stop(self) -> None:
        """Ends it cleanly, or by SIGKILL if it takes too long; the data stay."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash would be; the data stay, as far as the server had written them."""
        self._process.kill()

    def restart(self) -> None:
        """`stop` and `start`: the same port, the same data."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """SIGSTOP: the server hangs, with its connections open."""
        self._process.suspend()

    def resume(self) -> None:
        """SIGCONT: the server goes on after `suspend`."""
        self._process.resume()

    def wipe(self) -> None:
        """Deletes what it has stored; the server must not run."""
        assert not self.running, f"{self.name} runs: stop it before its data are deleted"
        if self.data_dir.exists():
            shutil.rmtree(self.data_dir)

    def remove(self) -> None:
        """Deletes its whole directory, log included; the server must not run."""
        assert not self.running, f"{self.name} runs: stop it before its directory is deleted"
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        """Stops it, and removes its directory if that was not given."""
        self.stop()
        if self._temporary:
            self.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            # The log is worth keeping: the error names it.
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _new_directory(self) -> Path:
        prune(RUN_DIR)
        return RUN_DIR / f"{type(self).__name__.lower()}-{os.getpid()}-{secrets.token_hex(3)}"

    def _ports(self) -> Sequence[int]:
        return [self.port]

    @abstractmethod
    def _parts(self) -> list[Part]:
        """What has to be installed."""

    @abstractmethod
    def _prepare(self) -> None:
        """Writes the configuration, and makes the data directory at the first start."""

    @abstractmethod
    def _command(self) -> Command:
        """How to run it in the foreground."""

    @abstractmethod
    def _probe(self) -> bool:
        """Whether it serves; asked again and again until it does."""

    def _after_start(self) -> None:  # noqa: B027  # most servers need nothing here
        """What can only be made in a running server."""


class Cluster:
    """A context manager over servers that belong together; any of them may be killed and started again."""

    def __init__(self, *members: Server) -> None:
        self._members = members
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        """Starts all of them and waits until they serve; raises what `Server.start` raises."""
        self._running.enter_context(together(*self._members))

    def close(self) -> None:
        """Stops them, the last first, and removes what was temporary."""
        self._running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def prune(directory: Path) -> None:
    """Deletes the temporary directories of processes that were killed before they could.

    Not at once: an error may have named the log in one of them.
    """
    for path in directory.glob("*-*-*"):
        found = _TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):
            # A process id that somebody else has by now keeps it a while longer.
            if found and not psutil.pid_exists(int(found[1])) and time.time() - path.stat().st_mtime > _KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def together(*servers: Server) -> Iterator[None]:
    """Runs several servers that come up at the same time, and ends them in the opposite order."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            # Only stopped, as long as one may fail to start: the error names its log.
            stack.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait_ready()
        for server in servers:
            stack.callback(server.close)
        yield
