"""The newest log lines in memory, for whoever asks the node for them: bounded, whatever is told."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from contract.logs import MAX_LINE_CHARACTERS, LogLine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contract.logs import Level, LogRequest

_MAX_LINES: Final = 2000
_MAX_CHARACTERS: Final = 256 * 1024
_MAX_LOGGER_CHARACTERS: Final = 200
_MS_PER_S: Final = 1000
_SEVERITIES: Final[dict[Level, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What of a ring meets a request: the newest lines, how many more do, how many of that time are gone, if any."""

    lines: Sequence[LogLine]
    left_out: int
    forgotten: int


class _Kept(NamedTuple):
    severity: int
    at_s: float
    line: LogLine


class LogRing:
    """Keeps lines that any thread adds; `run` names this run of the agent, by which lines are numbered."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self.run = uuid.uuid4().hex
        self._lines: deque[_Kept] = deque()
        self._characters = 0
        self._number = 0
        self._lock = threading.Lock()

    def add(self, record: logging.LogRecord, text: str) -> None:
        """Keeps a record, told as `text`; the oldest make room."""
        text = text[:MAX_LINE_CHARACTERS]
        with self._lock:
            self._number += 1
            at_ms = max(0, int(record.created * _MS_PER_S))
            name = record.name[:_MAX_LOGGER_CHARACTERS]
            line = LogLine(
                number=self._number, at_ms=at_ms, level=record.levelname.lower()[:20], logger=name, text=text
            )
            self._lines.append(_Kept(record.levelno, self._monotonic_s(), line))
            self._characters += len(text)
            while len(self._lines) > _MAX_LINES or self._characters > _MAX_CHARACTERS:
                self._characters -= len(self._lines.popleft().line.text)

    def newest(self, wanted: LogRequest) -> Found:
        """What is there of what is wanted."""
        after = wanted.after if wanted.run == self.run else 0
        worst = _SEVERITIES[wanted.level]
        with self._lock:
            since_s = self._monotonic_s() - wanted.within_s
            lines = [
                kept.line
                for kept in self._lines
                if kept.severity >= worst and kept.line.number > after and kept.at_s >= since_s
            ]
            reaches_back = not self._lines or self._lines[0].at_s <= since_s
            forgotten = 0 if reaches_back else max(0, self._number - len(self._lines) - after)
        return Found(lines[-wanted.most :], max(0, len(lines) - wanted.most), forgotten)
