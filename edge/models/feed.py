"""What one model is fed with: its inputs by step, and the windows that are due. Pure: the time is given."""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from edge.models.package import rows_of, stride_ms
from edge.models.ring import Ring

if TYPE_CHECKING:
    from contract.manifest import Manifest
    from edge.models.config import ModelConfig

MAX_WAITING: Final = 8
_LATE_STEPS: Final = 1024
_CLOCK_SET_MS: Final = 600_000
_MS_PER_S: Final = 1000


class Feed:
    """The inputs of a model; `waiting` has the ends (UTC ms) of windows that are due, at most `MAX_WAITING`."""

    def __init__(self, manifest: Manifest, config: ModelConfig) -> None:
        self.waiting: deque[int] = deque()
        self.skipped = 0
        self._step_ms = manifest.window.step_ms
        self._stride_ms = stride_ms(manifest, config)
        self._grace_ms = round(config.grace_s * _MS_PER_S)
        self._rows = rows_of(manifest)
        # Room for what comes while windows wait; one that waits for longer than that lacks its beginning.
        late_ms = self._grace_ms + self._stride_ms * MAX_WAITING
        size = self._rows + min(max(self._rows, _LATE_STEPS), math.ceil(late_ms / self._step_ms)) + 1
        self._rings = [
            (each.name, config.address(each.source), Ring(size, self._step_ms, each.resample))
            for each in manifest.inputs
        ]
        self._newest_end_ms: int | None = None

    @property
    def rings(self) -> list[tuple[tuple[str, str], Ring]]:
        """Where the readings of each source and metric go."""
        return [(address, ring) for _, address, ring in self._rings]

    def look(self, now_ms: int) -> None:
        """Puts the windows that are due by now among those that wait; the first is the one after the first look."""
        newest_ms = (now_ms - self._grace_ms) // self._stride_ms * self._stride_ms
        # A clock that was set: of the time between nothing is known, and no window was missed in it.
        if self._newest_end_ms is None or newest_ms - self._newest_end_ms > max(_CLOCK_SET_MS, 2 * self._stride_ms):
            self._newest_end_ms = newest_ms
            self.waiting.clear()
        count = max(0, (newest_ms - self._newest_end_ms) // self._stride_ms)
        if count == 0:
            return
        new = range(newest_ms - (min(count, MAX_WAITING) - 1) * self._stride_ms, newest_ms + 1, self._stride_ms)
        left_out = max(0, len(self.waiting) + count - MAX_WAITING)
        self.skipped += left_out
        self.waiting.extend(new)
        while len(self.waiting) > MAX_WAITING:
            self.waiting.popleft()
        self._newest_end_ms = newest_ms

    def next_look_ms(self, now_ms: int) -> int:
        """Milliseconds until there may be another one."""
        newest_ms = self._newest_end_ms if self._newest_end_ms is not None else now_ms
        return newest_ms + self._stride_ms + self._grace_ms - now_ms

    def window(self, end_ms: int) -> tuple[bytes, bytes]:
        """Values and states of the steps before `end_ms`, input by input."""
        first = end_ms // self._step_ms - self._rows
        spans = [ring.span(first, self._rows) for _, _, ring in self._rings]
        return b"".join(values for values, _ in spans), b"".join(states for _, states in spans)

    def done(self, end_ms: int) -> None:
        """The window is off the list."""
        with suppress(ValueError):
            self.waiting.remove(end_ms)

    def adopt(self, other: Feed) -> None:
        """Goes on where another left off, with what both know: a model that takes over loses no window."""
        theirs = {(name, address, ring.rule): ring for name, address, ring in other._rings}
        for name, address, ring in self._rings:
            if (known := theirs.get((name, address, ring.rule))) is not None:
                ring.adopt(known)
        self.skipped = other.skipped
        if self._stride_ms == other._stride_ms:
            self.waiting, self._newest_end_ms = other.waiting.copy(), other._newest_end_ms
