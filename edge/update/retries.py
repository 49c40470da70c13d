"""When what waits is tried again: twice as long after each time in vain, up to an hour. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_S: Final = 3600.0
_MOST_DOUBLINGS: Final = 20


class Retries:
    """Of several things by their keys; one that was not put off is due."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._due_s: dict[str, float] = {}
        self._tries: dict[str, int] = {}

    def is_due(self, key: str, now_s: float) -> bool:
        """Whether it is to be tried now."""
        return self._due_s.get(key, now_s) <= now_s

    def until_due_s(self, keys: Iterable[str], now_s: float) -> float | None:
        """Seconds until the first of these is due; None where there is none."""
        waits = [max(0.0, self._due_s.get(key, now_s) - now_s) for key in keys]
        return min(waits, default=None)

    def put_off(self, key: str, now_s: float) -> None:
        """It was tried in vain."""
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        longest_s = max(_LONGEST_S, self._first_s)
        self._due_s[key] = now_s + min(self._first_s * 2 ** min(tries - 1, _MOST_DOUBLINGS), longest_s)

    def forget(self, key: str) -> None:
        """It is done, or another has taken its place."""
        self._due_s.pop(key, None)
        self._tries.pop(key, None)

    def all_now(self) -> None:
        """Something has changed: all are due."""
        self._due_s.clear()
