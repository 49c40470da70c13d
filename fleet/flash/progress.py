"""How far something is, how fast it goes and how long it will take, on a terminal's line or now and then in a log."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TERMINAL_S: Final = 0.2
_LOG_S: Final = 10.0
_MIB: Final = 1 << 20
_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Progress:
    """Tells it on `out`, or nobody where there is none."""

    out: TextIO | None
    clock: Callable[[], float] = time.monotonic

    @contextlib.contextmanager
    def phase(self, what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Gives what to call with how many of the bytes are done."""
        began_s = self.clock()
        last_s = began_s
        is_terminal = self.out is not None and self.out.isatty()

        def advance(done_bytes: int) -> None:
            nonlocal last_s
            now_s = self.clock()
            if self.out is not None and now_s - last_s >= (_TERMINAL_S if is_terminal else _LOG_S):
                last_s = now_s
                line = shown(what, done_bytes, total_bytes, now_s - began_s)
                self.out.write(f"\r{line}\x1b[K" if is_terminal else f"{line}\n")
                self.out.flush()

        try:
            yield advance
        finally:
            if self.out is not None and is_terminal:
                self.out.write("\r\x1b[K")
                self.out.flush()


def shown(what: str, done_bytes: int, total_bytes: int, elapsed_s: float) -> str:
    """The line: share done, rate, time left; 100 % only when nothing is left."""
    done_bytes = min(done_bytes, total_bytes)
    rate = done_bytes / _MIB / elapsed_s if elapsed_s > 0 else 0.0
    left = f", {_shown_s(elapsed_s * (total_bytes - done_bytes) / done_bytes)} left" if done_bytes > 0 else ""
    return f"{what}: {100 * done_bytes // max(total_bytes, 1)}%, {rate:.1f} MiB/s{left}"


def _shown_s(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
