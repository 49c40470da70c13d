"""`python -m stack demo`: run the system, show it, and say in the end whether anything was lost."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live

from stack.demo import view
from stack.demo.dashboards import Dashboards
from stack.demo.observe import Watch
from stack.demo.system import Settings, System
from stack.grafana import Grafana

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack.demo.layout import Layout, Ports

_TICK_S: Final = 0.5
_LINE_EVERY_S: Final = 5.0


def run_demo(directory: Path, ports: Ports, *, duration_s: float | None, seed: int) -> int:
    """Runs the demo until Ctrl-C, or for a time and then with the reconciliation; returns the exit status."""
    console = Console()
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/dim] {text}", highlight=False)

    # Grafana stops last: a second Ctrl-C while the agents stop has to kill them, not it.
    with contextlib.ExitStack() as beside, System(Settings(directory, ports, seed, say)) as system:
        say("everything runs")
        try:
            dashboards = beside.enter_context(Dashboards(lambda: _grafana(system.layout), say))
            _show(console, system, dashboards, duration_s)
        except KeyboardInterrupt:
            say("stopping; the agents empty their spools first")
            return 0
        system.drain()
        return system.reconcile()


def _grafana(layout: Layout) -> Grafana:
    return Grafana(layout.reader_dsn.read_text().strip(), port=layout.ports.grafana, directory=layout.grafana)


def _show(console: Console, system: System, dashboards: Dashboards, duration_s: float | None) -> None:
    ends = None if duration_s is None else time.monotonic() + duration_s
    with Watch(system.observer()) as watch, _output(console, dashboards) as output:
        while ends is None or time.monotonic() < ends:
            system.supervisor.supervise()
            dashboards.look()
            output.show(system, watch)
            time.sleep(_TICK_S)


class _Screen:
    """A live screen."""

    def __init__(self, live: Live, dashboards: Dashboards) -> None:
        self._live = live
        self._dashboards = dashboards

    def show(self, system: System, watch: Watch) -> None:
        ports = system.layout.ports
        title = f"Headwater demo - mqtt {ports.mqtt}, kafka {ports.kafka}, database {ports.database}"
        supervisor = system.supervisor
        screen = view.screen(watch.latest, supervisor.restarts, supervisor.events, title, self._dashboards.url)
        self._live.update(screen, refresh=True)


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
def _output(console: Console, dashboards: Dashboards) -> Iterator[_Screen | _Lines]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False, screen=False) as live:
        yield _Screen(live, dashboards)
