"""One agent to a state directory: two would deliver each other's batches."""

from __future__ import annotations

import contextlib
import fcntl
from typing import TYPE_CHECKING

from edge.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keeps a second agent out of a state directory while the context lasts; raises EdgeError where one is in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w", encoding="ascii")
    except FileExistsError:
        raise EdgeError(f"state_dir {directory} cannot be used: it is no directory") from None
    except OSError as exc:
        raise EdgeError(f"state_dir {directory} cannot be used: {exc.strerror}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgeError(f"state_dir {directory} is used by another agent: give each its own") from None
        except OSError as exc:
            raise EdgeError(f"state_dir {directory} cannot be used, its disk knows no locks: {exc.strerror}") from exc
        yield


def is_used(directory: Path) -> bool:
    """Whether an agent is at work in a state directory; False where we may not look."""
    try:
        with (directory / "lock").open("r", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
