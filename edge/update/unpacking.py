"""Where an update's archive is unpacked: beside its place, to take that in one step."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from contract.archive import ArchiveError, unpack
from edge.errors import NotNowError, UpdateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.update import Desired

_SCRATCH: Final = ".unpacking"


@contextmanager
def scratch_in(versions: Path) -> Iterator[Path]:
    """A place for `unpack_anew`, which makes it, in a thread: an earlier run may have left much. It is gone afterwards.

    What is wrong with the archive becomes an UpdateError, and what the disk does not do a NotNowError.
    """
    scratch = versions / _SCRATCH
    try:
        yield scratch
    except ArchiveError as exc:
        raise UpdateError(f"its archive: {exc}") from exc
    except OSError as exc:
        raise NotNowError(f"{versions}: cannot be unpacked: {exc.strerror}") from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def unpack_anew(archive: Path, desired: Desired, scratch: Path) -> None:
    """Unpacks an archive, whatever an earlier run has left there; raises ArchiveError or OSError."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with archive.open("rb") as file:
        unpack(file, scratch, desired.unpacked_bytes)
