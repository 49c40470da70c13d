"""`python -m stack demo`: run the system, show it, and say in the end whether anything was lost."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live

from stack.demo import view
from stack.demo.observe import Watch
from stack.demo.system import Settings, System

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack.demo.layout import Ports

_TICK_S: Final = 0.5
_LINE_EVERY_S: Final = 5.0


def run_demo(directory: Path, ports: Ports, *, duration_s: float | None, seed: int) -> int:
    """Runs the demo until Ctrl-C, or for a time and then with the reconciliation; returns the exit status."""
    console = Console()
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/dim] {text}", highlight=False)

    with System(Settings(directory, ports, seed, say)) as system:
        say("everything runs")
        try:
            _show(console, system, duration_s)
        except KeyboardInterrupt:
            say("stopping; the agents empty their spools first")
            return 0
        system.drain()
        return system.reconcile()


def _show(console: Console, system: System, duration_s: float | None) -> None:
    ends = None if duration_s is None else time.monotonic() + duration_s
    with Watch(system.observer()) as watch, _output(console) as output:
        while ends is None or time.monotonic() < ends:
            system.supervisor.supervise()
            output.show(system, watch)
            time.sleep(_TICK_S)


class _Screen:
    """A live screen."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, system: System, watch: Watch) -> None:
        ports = system.layout.ports
        title = f"Headwater demo - mqtt {ports.mqtt}, kafka {ports.kafka}, database {ports.database}"
        self._live.update(
            view.screen(watch.latest, system.supervisor.restarts, system.supervisor.events, title), refresh=True
        )


class _Lines:
    """A line now and then, and one per event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._events = 0

    def show(self, system: System, watch: Watch) -> None:
        for event in system.supervisor.events[self._events :]:
            self._console.print(event.text, highlight=False)
        self._events = len(system.supervisor.events)
        if watch.latest is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY_S
            self._console.print(view.line(watch.latest), highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _output(console: Console) -> Iterator[_Screen | _Lines]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False, screen=False) as live:
        yield _Screen(live)
