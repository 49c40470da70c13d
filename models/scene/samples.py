"""Pictures of one camera: from a directory of JPEGs, and what is said of those from anywhere."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import cv2
import numpy as np

from contract.clips import MAX_JPEG_BYTES
from contract.scene import DAY_S, SIDE
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    Pictures: TypeAlias = NDArray[np.uint8]
    Times: TypeAlias = NDArray[np.int64]
    Mask: TypeAlias = NDArray[np.bool_]

_SUFFIXES: Final = frozenset({".jpg", ".jpeg"})
_UTC_MS: Final = re.compile(r"1[0-9]{12}")
_MAX_PICTURES: Final = 50_000
# Hours are told in steps of this, outwards; in so many of the day there is no quiet left to speak of.
_ROUND_S: Final = 900
_ALL_DAY_S: Final = 79_200


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """`at_ms` int64 [n], UTC ms, rising; `pictures` uint8 [n, 96, 96], grey; `camera` is GROUP/NODE/DEVICE."""

    camera: str
    origin: str
    at_ms: Times
    pictures: Pictures

    def __len__(self) -> int:
        return len(self.at_ms)

    def __getitem__(self, chosen: slice | Mask | NDArray[np.int64]) -> Self:
        return type(self)(self.camera, self.origin, self.at_ms[chosen], self.pictures[chosen])

    @property
    def sha256(self) -> str:
        """Of all times and pictures."""
        return hashlib.sha256(self.at_ms.tobytes() + self.pictures.tobytes()).hexdigest()

    @property
    def from_at(self) -> dt.datetime:
        """Of the first."""
        return dt.datetime.fromtimestamp(int(self.at_ms[0]) / 1000, tz=dt.UTC)

    @property
    def to_at(self) -> dt.datetime:
        """Of the last."""
        return dt.datetime.fromtimestamp(int(self.at_ms[-1]) / 1000, tz=dt.UTC)

    @property
    def quiet_hours(self) -> str:
        """The shortest hours of the day (UTC) in which all of them were taken, by quarters."""
        clocks_s = np.unique(self.at_ms // 1000 % DAY_S)
        gaps_s = np.diff(clocks_s, append=clocks_s[0] + DAY_S)
        longest = int(gaps_s.argmax())
        begin_s = int(clocks_s[(longest + 1) % len(clocks_s)]) // _ROUND_S * _ROUND_S
        end_s = -(-(int(clocks_s[longest]) + 1) // _ROUND_S) * _ROUND_S
        if DAY_S - int(gaps_s[longest]) > _ALL_DAY_S or (end_s - begin_s) % DAY_S == 0:
            return "00:00-24:00"
        return f"{_clock(begin_s)}-{_clock(end_s % DAY_S) if end_s != DAY_S else '24:00'}"


def of_jpegs(camera: str, origin: str, found: Iterable[tuple[int, bytes]]) -> Samples:
    """The samples of JPEGs with their times (UTC ms), in order; raises DataError where there is none to use."""
    pictures = {at_ms: picture for at_ms, jpeg in found if (picture := _decoded(jpeg)) is not None}
    if not pictures:
        raise DataError(f"{camera}: {origin} has no picture of {SIDE} x {SIDE}")
    at_ms = sorted(pictures)
    return Samples(camera, origin, np.array(at_ms, np.int64), np.stack([pictures[each] for each in at_ms]))


def from_directory(directory: Path, camera: str) -> Samples:
    """The JPEGs of a directory: a name's UTC ms is when one was taken, else the file's age; raises DataError.

    Larger ones are made small, as the camera's process does it.
    """
    try:
        files = sorted(entry for entry in directory.iterdir() if entry.suffix.lower() in _SUFFIXES)
        if len(files) > _MAX_PICTURES:
            raise DataError(f"{directory}: has {len(files)} JPEGs: allowed are {_MAX_PICTURES}")
        return of_jpegs(camera, directory.name, ((_taken_ms(file), _content(file)) for file in files))
    except OSError as exc:
        raise DataError(f"{directory}: cannot be read: {exc.strerror}") from exc


def _taken_ms(file: Path) -> int:
    named = _UTC_MS.search(file.stem)
    return int(named[0]) if named else file.stat().st_mtime_ns // 1_000_000


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_JPEG_BYTES + 1)


def _decoded(jpeg: bytes) -> Pictures | None:
    """The picture; None of what is none, or too large to have come from a camera's clip."""
    if len(jpeg) > MAX_JPEG_BYTES or not jpeg.startswith(b"\xff\xd8"):
        return None
    try:
        grey = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)
    except (cv2.error, TypeError):  # None is no picture, nor an array
        return None
    small = grey if grey.shape == (SIDE, SIDE) else cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _clock(of_day_s: int) -> str:
    return f"{of_day_s // 3600:02d}:{of_day_s // 60 % 60:02d}"
