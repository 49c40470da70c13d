"""Which ends of windows are due: arithmetic of whole milliseconds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.manifest import Window


def every_ms(window: Window, every_s: float | None) -> int:
    """From one window to the next: whole steps."""
    steps = 1 if every_s is None else max(1, round(every_s * 1000 / window.step_ms))
    return steps * window.step_ms


def mark_ms(newest_ms: Sequence[int | None], grace_ms: int) -> int | None:
    """Up to when what is looked at is taken to be complete, by the newest reading of each of its series.

    All have come so far; or one is so far behind the others that it is not waited for: it may have failed, or have
    nothing new to tell. None before any has come. By the readings' own time, so that an outage, or Kafka's lag, costs
    no window: there is nothing due meanwhile.
    """
    known = [each for each in newest_ms if each is not None]
    if not known:
        return None
    behind = min(known) if len(known) == len(newest_ms) else max(known) - grace_ms
    return max(behind, max(known) - grace_ms)


def due_ms(done_to_ms: int | None, mark: int, every: int, most: int) -> range:
    """The ends after `done_to_ms` up to the mark, the newest `most` of them; the newest alone where none is done."""
    last = mark // every * every
    first = last if done_to_ms is None else (done_to_ms // every + 1) * every
    return range(max(first, last - (most - 1) * every), last + 1, every)
