"""The device of a test: its card, its machine, and how long all of it took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stack import ManagedProcess

# An emulated machine takes its time, on a machine that has other work more so.
PATIENCE_S: Final = 1200.0


@dataclass
class Device:
    """A machine that boots from a card; `card` and `machine` are those of card.py."""

    card: Any
    folder: Path
    notes: list[str] = field(default_factory=list)
    boots: int = 0
    _machine: ManagedProcess | None = None
    _since_s: float = 0.0

    @property
    def console(self) -> Path:
        """What its present boot has said."""
        return self.folder / f"console-{self.boots}.log"

    def power_on(self) -> None:
        """It boots; what is noted from now on is counted from here."""
        self.boots += 1
        self._machine = self.card.machine(self.folder, self.console)
        self._machine.start()
        self._since_s = time.monotonic()
        self.note(f"boot {self.boots}")

    def cut_power(self) -> None:
        """It is killed: nothing that it has not flushed is kept."""
        if self._machine is not None:
            self._machine.kill()

    def wait(self, what: str, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Waits for it while the machine runs, and notes when it was."""
        machine = self._machine
        assert machine is not None
        met = wait_until(lambda: not machine.running or bool(condition()), timeout_s=timeout_s, poll_s=2)
        said = self.console.read_text(errors="replace")[-3000:]
        assert machine.running, f"the machine has ended before this: {what}\n{machine.log_tail()}\n{said}"
        assert met, f"not within {timeout_s:g} s: {what}\n{said}"
        self.note(what)

    def note(self, what: str) -> None:
        """Writes down that it was now."""
        self.notes.append(f"{time.monotonic() - self._since_s:5.0f} s  {what}")
        print(self.notes[-1], flush=True)
