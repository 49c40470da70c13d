"""What was taken of each kind and name, on the disk before anything comes of it: no counter is ever taken twice."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from contract.archive import flush_directory
from contract.update_news import UpdateNews, UpdateState
from edge.errors import NotNowError, UpdateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from _typeshed import DataclassInstance

_FORMAT: Final = 1
_MAX_BYTES: Final = 1 << 20
# Far more than a node has models: who signs so many means no good.
_MAX_STANDINGS: Final = 256


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a kind and name: the desired state taken last, and what was confirmed last.

    `digest` is that of the signed state, the others are of contents: of the one wanted, and the one confirmed.
    """

    kind: str
    name: str
    counter: int
    digest: str
    wanted: str
    state: UpdateState
    reason: str | None = None
    running: str | None = None
    running_sha256: str | None = None
    wanted_sha256: str | None = None

    def ended(self, state: UpdateState, reason: str | None) -> Standing:
        """How it stands once the update has come to its end."""
        ended = replace(self, state=state, reason=reason)
        if state is UpdateState.CONFIRMED:
            return replace(ended, running=self.wanted, running_sha256=self.wanted_sha256)
        return ended

    @property
    def news(self) -> UpdateNews:
        """What is told of it."""
        return UpdateNews(self.kind, self.name, self.counter, self.wanted, self.running, self.state, self.reason)


class Ledger:
    """Standings in a file. One that cannot be read is an error: with it the counters would be lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._standings: dict[str, Standing] = {}

    @property
    def standings(self) -> Mapping[str, Standing]:
        """By kind and name."""
        return self._standings

    def load(self) -> None:
        """Reads the file, if there is one; raises UpdateError, and NotNowError where the disk fails."""
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(_MAX_BYTES))
            self._standings = {key: _standing(found) for key, found in document["standings"].items()}
        except FileNotFoundError:
            return
        except OSError as exc:
            raise NotNowError(
                f"{self._path}, which has the counters of updates, cannot be read: {exc.strerror}"
            ) from exc
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise UpdateError(
                f"{self._path}, which has the counters of updates, cannot be read: {exc}; none is taken until it is "
                "put in order, or deleted by somebody who accepts that older ones could come again"
            ) from exc

    def put(self, standing: Standing) -> None:
        """Takes note, and has it on the disk; raises UpdateError where the disk takes nothing."""
        key = f"{standing.kind}/{standing.name}"
        if key not in self._standings and len(self._standings) >= _MAX_STANDINGS:
            raise UpdateError(f"there are updates of {_MAX_STANDINGS} names already")
        standings = {**self._standings, key: standing}
        content = {"format": _FORMAT, "standings": {key: asdict(each) for key, each in standings.items()}}
        try:
            replace_file(self._path, json.dumps(content).encode())
        except OSError as exc:
            raise NotNowError(f"{self._path}: cannot be written: {exc.strerror}") from exc
        self._standings = standings


def replace_file(path: Path, content: bytes, like: Path | None = None) -> None:
    """Puts a file in its place in one step: after a power cut there is the old one, or this. Raises OSError.

    Its owner and mode are those of `like`, where that is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.new")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if like is not None and like.exists():
            found = like.stat()
            os.fchmod(descriptor, found.st_mode & 0o777)
            if os.geteuid() == 0:
                os.fchown(descriptor, found.st_uid, found.st_gid)
        file.flush()
        os.fsync(descriptor)
    half.replace(path)
    flush_directory(path.parent)


def known(kind: type[DataclassInstance], found: dict[str, Any]) -> dict[str, Any]:
    """Of what a file says the fields of `kind`: a newer agent, put back since, may have noted more."""
    return {each.name: found[each.name] for each in fields(kind) if each.name in found}


def remove_file(path: Path) -> None:
    """Deletes a file for good, if it is there. Raises OSError."""
    if path.exists():
        path.unlink()
        flush_directory(path.parent)


def _standing(found: dict[str, Any]) -> Standing:
    standing = Standing(**{**known(Standing, found), "state": UpdateState(found["state"])})
    if not isinstance(standing.counter, int):
        raise TypeError("a counter is no number")
    return standing
