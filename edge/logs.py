"""Log lines: as text for people, or as a JSON object each for programs; and never without bound.

What a stranger can cause often (a command, a device's answer) fills no disk: of one place in the code, and one source,
so many lines a minute are told, and then how many were not.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from edge.log_ring import LogRing

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
# They tell each URL, with the key of whoever has to put it there.
_SECRETIVE: Final = ("httpx", "httpcore")
_OWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "held_back"})
_PERIOD_S: Final = 60.0
_PER_PERIOD: Final = 30
_MOST_PLACES: Final = 1000


def configure(style: str, *, verbose: bool) -> LogRing:
    """Sets up logging to stderr, in style "text" or "json"; gives what keeps the newest lines."""
    ring = LogRing()
    handler = Remembering(ring)
    handler.setFormatter(JsonLines() if style == "json" else TextLines(_TEXT))
    if not verbose:
        handler.addFilter(Bounded())
    for secretive in _SECRETIVE:
        logging.getLogger(secretive).setLevel(logging.WARNING)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    return ring


class Remembering(logging.StreamHandler[TextIO]):
    """Writes to stderr, and keeps in a ring what it has written."""

    def __init__(self, ring: LogRing) -> None:
        super().__init__()
        self._ring = ring
        self._text = TextLines("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line that is written, which is kept at the same time: logging sees to whatever fails in here."""
        self._ring.add(record, printable(self._text.format(record)))
        return super().format(record)


class TextLines(logging.Formatter):
    """A line for people: a stranger's words in it command no terminal, and pass for no line of ours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, without the traceback."""
        return printable(super().formatMessage(record)).replace("\n", "\n    ")


def printable(text: str) -> str:
    """A text, perhaps of several lines, without what would command a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what the record carries besides."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Bounded(logging.Filter):
    """Lets so many records a minute through from one line of code about one source, and counts the others."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._seen: dict[tuple[str, int, object], _Seen] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told; the first after a pause tells how many were not."""
        now_s = self._monotonic_s()
        if len(self._seen) > _MOST_PLACES:
            self._seen = {place: seen for place, seen in self._seen.items() if now_s - seen.since_s < _PERIOD_S}
        seen = self._seen.setdefault((record.pathname, record.lineno, getattr(record, "source", None)), _Seen(now_s))
        if now_s - seen.since_s >= _PERIOD_S:
            held_back, seen.since_s, seen.told, seen.held_back = seen.held_back, now_s, 0, 0
            if held_back:
                record.msg, record.args = f"{record.getMessage()} ({held_back} more like this were not told)", None
        seen.told += 1
        if seen.told > _PER_PERIOD:
            seen.held_back += 1
            return False
        return True


class _Seen:
    __slots__ = ("held_back", "since_s", "told")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.told = 0
        self.held_back = 0
