"""One child process: started in a process group of its own, ended with all its children, and never outliving us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from stack.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_POLL_S = 0.05
_LOG_TAIL_BYTES = 16_384


def wait_until(condition: Callable[[], bool], *, timeout_s: float, poll_s: float = _POLL_S) -> bool:
    """Whether a condition became true in time; it is asked at least once."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_s)
    return True


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: `user` is the account it runs as, which only root can choose."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: str | None = None
    # PostgreSQL's SIGTERM waits for its clients; others have a rude SIGINT. Each server names its clean one.
    stop_signal: signal.Signals = signal.SIGTERM

    def with_death_signal(self) -> list[str]:
        """The words to execute, through util-linux's setpriv.

        setpriv asks the kernel to send the stop signal when the starting *thread* is gone, so only the main thread
        may ask; it does so after the change of user, which would clear it. (A preexec_fn could do the same, but is
        unsafe beside other threads.)
        """
        launcher = ["setpriv"]
        if self.user is not None:
            launcher += ["--reuid", self.user, "--regid", self.user, "--init-groups"]
        if threading.current_thread() is threading.main_thread():
            launcher += ["--pdeathsig", self.stop_signal.name.removeprefix("SIG")]
        return [*launcher, "--", *self.argv] if len(launcher) > 1 else [*self.argv]


def run_to_end(name: str, command: Command, *, timeout_s: float, failed: str, log_path: Path) -> None:
    """Runs what prepares a server; raises ServerError, which says that it `failed`, with what it printed."""
    try:
        done = subprocess.run(  # noqa: S603  # our own commands
            command.with_death_signal(),
            check=False,
            env={**os.environ, **command.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            cwd=command.cwd,
        )
    except subprocess.TimeoutExpired as exc:
        raise ServerError(name, f"{failed} in {timeout_s:g} s", log_path, "") from exc
    if done.returncode != 0:
        raise ServerError(name, failed, log_path, done.stdout)


def kill_all(family: Sequence[psutil.Process]) -> None:
    """SIGKILL for all of them that are still there; returns at once."""
    for process in family:
        # psutil compares start times: a process id that was given to somebody else counts as gone.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


class ManagedProcess:
    """A named child process whose output goes to a log file.

    Its terminal signals are kept from it: on Ctrl-C the parent decides in which order its children end. When the
    parent is killed, the kernel ends the child. It can be started again after it has ended; the log is continued.
    """

    def __init__(self, name: str, command: Command, *, log_path: Path) -> None:
        self.name = name
        self.command = command
        self.log_path = log_path
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id, None when it was never started."""
        return None if self._popen is None else self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def poll(self) -> int | None:
        """The exit status (negative: the signal that ended it), None while it runs or before it was started."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        """Starts it; returns at once.

        From any thread but the main one it is started without the kernel's promise to end it when we are killed.
        """
        if self.running:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(  # noqa: S603  # our own servers
                self.command.with_death_signal(),
                env={**os.environ, **self.command.env},
                cwd=self.command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout_s: float) -> int | None:
        """The exit status once it has ended, None when it has not in time."""
        wait_until(lambda: not self.running, timeout_s=timeout_s)
        return self.poll()

    def request_stop(self) -> None:
        """Sends its clean stop signal, if it runs; returns at once."""
        if self.running:
            assert self._popen is not None
            self._popen.send_signal(signal.SIGCONT)
            self._popen.send_signal(self.command.stop_signal)

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ends it: its clean stop signal first and SIGKILL for whatever is left after the time-out."""
        if self._popen is None:
            return
        family = self._family()
        if self.running:
            self.request_stop()
            self.wait(timeout_s)
        self._end(family)

    def kill(self) -> None:
        """SIGKILL for it and all its descendants, as a crash would be; returns when all of them are gone."""
        if self._popen is not None:
            self._end(self._family())

    def suspend(self) -> None:
        """SIGSTOP: it hangs, with its connections open."""
        assert self._popen is not None, f"{self.name} was never started"
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on after `suspend`."""
        assert self._popen is not None, f"{self.name} was never started"
        self._popen.send_signal(signal.SIGCONT)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines written since it was last started."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_ready(self, probe: Callable[[], bool], *, timeout_s: float) -> None:
        """Waits until a probe says that it serves; raises ServerError when it ends or is too slow, and ends it."""
        if wait_until(lambda: not self.running or probe(), timeout_s=timeout_s) and self.running:
            return
        status = self.poll()
        self.kill()
        happened = f"was not ready in {timeout_s:g} s" if status is None else f"ended with status {status}"
        raise ServerError(self.name, happened, self.log_path, self.log_tail())

    def _family(self) -> list[psutil.Process]:
        """It and its descendants: PostgreSQL's backends leave the process group, so the group alone is not enough."""
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _end(self, family: list[psutil.Process]) -> None:
        assert self._popen is not None
        kill_all(family)
        if self.running:
            self._popen.kill()
        # Before psutil waits, which would take the exit status of a child away.
        self._popen.wait(10.0)
        psutil.wait_procs(family, timeout=10.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
