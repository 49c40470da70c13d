"""Servers and roles by name, started again when they end by themselves, as systemd would."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from stack.errors import StackError
from stack.process import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESTART_DELAY_S: Final = 1.0
# An agent that cannot reach its broker gives up emptying its spool after 30 s.
ROLE_STOP_S: Final = 60.0


class Member(Protocol):
    """A server or a role: what can be started, stopped and killed."""

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        ...

    def start(self) -> None:
        """Starts it, where it was."""
        ...

    def stop(self) -> None:
        """Ends it cleanly."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a member; `at` is UTC in seconds."""

    at: float
    text: str


@dataclass(slots=True)
class _Watched:
    member: Member
    # Until when it stays down although it should run, in seconds of time.monotonic().
    down_until: float | None = None
    restarts: int = 0


class Supervisor:
    """Watches over members that were started by somebody else; `events` is what happened to them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._watched: dict[str, _Watched] = {}

    @property
    def members(self) -> Mapping[str, Member]:
        """Who is watched over, by name."""
        return {name: watched.member for name, watched in self._watched.items()}

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often each has been started again."""
        return {name: watched.restarts for name, watched in self._watched.items()}

    def watch(self, name: str, member: Member) -> None:
        """Watches over one more."""
        self._watched[name] = _Watched(member)

    def supervise(self) -> None:
        """Starts again what has ended by itself; call it often."""
        for name, watched in self._watched.items():
            if watched.member.running:
                continue
            now = time.monotonic()
            if watched.down_until is None:
                watched.down_until = now + RESTART_DELAY_S
                self._note(f"{name} ended")
            elif now >= watched.down_until:
                self._start_again(name, watched)

    def kill(self, name: str, *, down_s: float = RESTART_DELAY_S) -> None:
        """SIGKILL for a member; `supervise` starts it again after `down_s` seconds."""
        watched = self._watched[name]
        watched.member.kill()
        watched.down_until = time.monotonic() + down_s
        self._note(f"{name} killed")

    def release(self, names: Iterable[str]) -> list[Member]:
        """Those of these names that are watched, no longer watched."""
        return [self._watched.pop(name).member for name in names if name in self._watched]

    def stop(self, names: Iterable[str]) -> None:
        """Stops those of these names that are watched, one after the other; when interrupted, kills them all."""
        leaving = self.release(names)
        try:
            for member in leaving:
                if isinstance(member, ManagedProcess):
                    member.stop(ROLE_STOP_S)
                else:
                    member.stop()
        except BaseException:
            for member in leaving:
                member.kill()
            raise

    def _start_again(self, name: str, watched: _Watched) -> None:
        watched.restarts += 1
        try:
            watched.member.start()
        except StackError as exc:
            watched.down_until = time.monotonic() + RESTART_DELAY_S
            self._note(f"{name} could not be started: {str(exc).partition('; its log')[0]}")
        else:
            watched.down_until = None
            self._note(f"{name} started again")

    def _note(self, text: str) -> None:
        self.events.append(Event(time.time(), text))
