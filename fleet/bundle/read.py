"""For which devices a bundle is that was made before."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.bundle.target import Target
from fleet.errors import FleetError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_ABOUT_BYTES: Final = 4096
_LINE: Final = re.compile(r"^([A-Z]+)=([A-Za-z0-9.+_-]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class About:
    """A bundle's version, and for what it is."""

    version: str
    target: Target
    # Whose it is, with that node's enrolment and configuration; None: any node's.
    node: str | None


def read_about(path: Path) -> About:
    """What a bundle (`--tar`) says of itself; raises FleetError."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            # The first of its files, by its name.
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.name == "about" else None
            text = "" if file is None else file.read(_MAX_ABOUT_BYTES).decode("ascii", "replace")
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as exc:
        raise FleetError(f"{path}: is no bundle: {exc}") from exc
    except OSError as exc:
        raise FleetError(f"{path}: cannot be read: {exc.strerror}") from exc
    told = dict(_LINE.findall(text))
    if not told.keys() >= {"VERSION", "ARCH", "PYTHON"}:
        raise FleetError(f"{path}: is no bundle; `fleet bundle --tar` makes one")
    if "KIB" not in told:
        raise FleetError(f"{path}: was made by an older fleet, whose bundles install otherwise: make it anew")
    return About(told["VERSION"], Target.parse(told["ARCH"], told["PYTHON"]), told.get("NODE"))
