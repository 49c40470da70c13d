"""The ground truth: what a simulator really served, one JSON object per line, flushed per line.

The first line of each run is a header, so a ledger that is opened again goes on where it ended. Every
time in it is UTC ms.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, TypeAlias

from simulators.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

Value: TypeAlias = bool | int | float | str
_VERSION: Final = 1
_BLOCK_BYTES: Final = 65_536


class Match(StrEnum):
    """How an entry is found again among the stored readings."""

    SERVED = "served"
    """By the time of the answer: the source gives no time of its own."""
    SOURCE_TIME = "source_time"
    """By the source's own time; what is served many times under one time counts once."""
    FRAME = "frame"
    """By the source's own time, the first frame of each interval of each connection."""


@dataclass(frozen=True, slots=True)
class Header:
    """One run of a simulator."""

    simulator: str
    seed: int
    match: Match
    started_at: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """One answer that went out at `at`; `asked_at` is when it was asked for, where the simulator knows.

    A fleet's is a sample of `node`, taken at `source_at` by the node's clock; what is not `promised` may be lost.
    """

    at: int
    values: Mapping[str, Value]
    source_at: int | None = None
    connection: int | None = None
    asked_at: int | None = None
    node: str | None = None
    promised: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """A request for metrics that was answered with an error, or by dropping the connection, at `at`."""

    at: int
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """Registers (or bits) that a client wrote at `at`, accepted unless there is an `exception`.

    `values` are those of the points in them, `where` says the rest: unit_id, table and address.
    """

    at: int
    where: Mapping[str, Any]
    words: tuple[int, ...]
    values: Mapping[str, Value]
    exception: int | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """A labelled fault; `to_ms` is None while it lasts, and a later entry of the same start ends it."""

    label: str
    from_ms: int
    to_ms: int | None


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection that ended."""

    connection: int
    at: int


Entry: TypeAlias = Header | Served | Refused | Written | Incident | Closed


def now_ms() -> int:
    """The UTC time in ms, rounded down."""
    return time.time_ns() // 1_000_000


class Ledger(AbstractContextManager["Ledger"]):
    """An append-only ledger; each call writes and flushes one line.

    `header` holds "simulator", "seed" and "match" and whatever else a reader should know. Nothing is synced
    to the disk: a ledger outlives its process, not its machine.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._header = dict(header)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        try:
            # Two runs in one ledger could not be told apart. A kill gives the lock back.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self._file.close()
            raise LedgerError(f"{self.path}: another run writes this ledger") from exc
        _cut_torn_line(self._file)
        self._write({"ledger": _VERSION, **self._header, "started_at": now_ms()})
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def served(
        self,
        values: Mapping[str, Value],
        source_at: int | None = None,
        connection: int | None = None,
        at: int | None = None,
        asked_at: int | None = None,
    ) -> None:
        """Note an answer that went out (now, unless `at` says when)."""
        entry: dict[str, Any] = {"at": now_ms() if at is None else at, "values": values}
        optional = {"source_at": source_at, "connection": connection, "asked_at": asked_at}
        self._write(entry | {key: value for key, value in optional.items() if value is not None})

    def sampled(self, node: str, values: Mapping[str, Value], source_at: int, *, promised: bool = True) -> None:
        """Note a sample of a fleet's node, taken now, at `source_at` by its own clock."""
        unpromised = {} if promised else {"promised": False}
        self._write({"at": now_ms(), "node": node, "values": values, "source_at": source_at, **unpromised})

    def refused(self, metrics: Sequence[str], at: int | None = None) -> None:
        """Note that metrics were asked for and not given (now, unless `at` says when)."""
        self._write({"refused": list(metrics), "at": now_ms() if at is None else at})

    def written(
        self,
        where: Mapping[str, Any],
        words: Sequence[int],
        values: Mapping[str, Value] | None = None,
        exception: int | None = None,
    ) -> None:
        """Note a write: what was accepted, or the exception that refused it."""
        answer = {"values": dict(values or {})} if exception is None else {"exception": exception}
        self._write({"written": {**where, "words": list(words), **answer}, "at": now_ms()})

    def incident(self, label: str, from_ms: int, to_ms: int | None = None) -> None:
        """Note a labelled fault: once as it starts with no end, once more as it ends."""
        self._write({"incident": {"label": label, "from": from_ms, "to": to_ms}})

    def closed(self, connection: int, at: int | None = None) -> None:
        """Note the end of a connection (now, unless `at` says when)."""
        self._write({"closed": connection, "at": now_ms() if at is None else at})

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            raise LedgerError(f"{self.path}: the ledger is not open")
        line = json.dumps(entry, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        start, reason = self._file.seek(0, os.SEEK_END), os.strerror(errno.ENOSPC)
        try:
            if self._file.write(line) == len(line):
                return
        except OSError as exc:
            reason = exc.strerror or str(exc)
        # The disk is full. The next entry must not be glued to half of this one.
        self._file.truncate(start)
        raise LedgerError(f"{self.path}: an entry could not be written: {reason}")


def _cut_torn_line(file: BinaryIO) -> None:
    """Drop what a killed process left after the last line end, so that the next line is whole."""
    end = start = file.seek(0, os.SEEK_END)
    while start > 0:
        # From the end: a ledger may be larger than memory.
        start = file.seek(max(0, start - _BLOCK_BYTES))
        if (line_end := file.read(_BLOCK_BYTES).rfind(b"\n")) >= 0:
            break
    else:
        line_end = -1
    if start + line_end + 1 < end:
        file.truncate(start + line_end + 1)


def read_ledger(path: Path) -> Iterator[Entry]:
    """The entries of a ledger in the order written.

    A last line without its line end is passed over: its process was killed. Any other line that is no entry
    raises LedgerError with its number.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                yield _parse(line, f"{path}:{number}")
    except OSError as exc:
        raise LedgerError(f"{path}: cannot be read: {exc.strerror}") from exc


def _parse(line: bytes, where: str) -> Entry:
    try:
        return _entry(json.loads(line))
    except (ValueError, TypeError, KeyError) as exc:
        raise LedgerError(f"{where}: is no ledger entry: {exc!r}") from exc


def _entry(found: dict[str, Any]) -> Entry:
    match found:
        case {"ledger": int(version), "simulator": simulator, "seed": seed, "match": how, "started_at": at, **extra}:
            if version != _VERSION:
                raise ValueError(f"version {version}, allowed is {_VERSION}")
            return Header(simulator, seed, Match(how), at, extra)
        case {"incident": {"label": str(label), "from": int(from_ms), "to": int() | None as to_ms}}:
            return Incident(label, from_ms, to_ms)
        case {"refused": list(metrics), "at": int(at)}:
            return Refused(at, tuple(metrics))
        case {"written": dict(written), "at": int(at)}:
            return _written(written, at)
        case {"closed": int(connection), "at": int(at)}:
            return Closed(connection, at)
        case {"at": int(at), "values": dict(values)}:
            optional = ("source_at", "connection", "asked_at", "node", "promised")
            return Served(at, values, **{key: found[key] for key in optional if key in found})
        case _:
            raise ValueError("allowed are ledger, incident, refused, written, closed and at with values")


def _written(found: dict[str, Any], at: int) -> Written:
    words, values, exception = found.pop("words"), found.pop("values", {}), found.pop("exception", None)
    return Written(at, found, tuple(words), values, exception)
