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
    def phase(self, what: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """Gives what to call with how much of `total` is done, and how many bytes were moved for it."""
        began_s = self.clock()
        last_s = began_s
        is_terminal = self.out is not None and self.out.isatty()

        def advance(done: int, moved_bytes: int) -> None:
            nonlocal last_s
            now_s = self.clock()
            if self.out is not None and now_s - last_s >= (_TERMINAL_S if is_terminal else _LOG_S):
                last_s = now_s
                line = shown(what, done / max(total, 1), moved_bytes, now_s - began_s)
                self.out.write(f"\r{line}\x1b[K" if is_terminal else f"{line}\n")
                self.out.flush()

        try:
            yield advance
        finally:
            if self.out is not None and is_terminal:
                self.out.write("\r\x1b[K")
                self.out.flush()


def shown(what: str, share: float, moved_bytes: int, elapsed_s: float) -> str:
    """The line: share done, rate, time left."""
    share = min(max(share, 0.0), 1.0)
    rate = moved_bytes / _MIB / elapsed_s if elapsed_s > 0 else 0.0
    left = f", {_shown_s(elapsed_s * (1 - share) / share)} left" if share > 0 else ""
    return f"{what}: {share:.0%}, {rate:.1f} MiB/s{left}"


def _shown_s(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
