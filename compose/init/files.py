"""Secrets as files: whole or not at all, readable by one service, and left alone once they are there."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.authority import Identity, issue, new_authority, still_good

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Ours to read and the service's, by its group; nobody writes to them but by a new file.
_MODE: Final = 0o440
_PASSWORD_BYTES: Final = 24
_AUTHORITY_LIFE: Final = dt.timedelta(days=3650)
LIFE: Final = dt.timedelta(days=397)
# Renewed by the first `docker compose up` within so much time of the end.
RENEWED_BEFORE: Final = dt.timedelta(days=60)


@dataclass(frozen=True, slots=True)
class Folder:
    """One service's secrets: a volume that this service alone mounts, and its group."""

    path: Path

    def write(self, name: str, content: bytes) -> None:
        """Put a file there in one step; its group is the folder's."""
        half = self.path / f".{name}.{os.getpid()}"
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            # Allowed without any capability: we are of that group.
            os.fchown(descriptor, -1, self.path.stat().st_gid)
            os.fchmod(descriptor, _MODE)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        half.rename(self.path / name)

    def read(self, name: str) -> bytes | None:
        """A file's content, None where it is not there."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, name: str, make: Callable[[], bytes]) -> bytes:
        """A file's content; where there is none it is made."""
        found = self.read(name)
        if found is None:
            found = make()
            self.write(name, found)
        return found

    def put(self, name: str, content: bytes) -> None:
        """Bring a file to a content; one that has it is not touched."""
        if self.read(name) != content:
            self.write(name, content)


def kept_authority(folder: Folder, name: str) -> Identity:
    """The authority NAME.pem in a folder, made where there is none."""
    return Identity(folder.keep(f"{name}.pem", lambda: new_authority(f"Headwater {name}", _AUTHORITY_LIFE).pem))


def kept_identity(folder: Folder, authority: Identity, file: str, name: str, hosts: Sequence[str] = ()) -> str | None:
    """See to FILE of one who is called `name`: made where there is none, or where it will not do; what was done."""
    found, until = folder.read(file), dt.datetime.now(dt.UTC) + RENEWED_BEFORE
    if found is not None and still_good(Identity(found), authority, hosts, until):
        return None
    folder.write(file, issue(authority, name, LIFE, hosts).pem)
    return f"{'issued' if found is None else 'renewed'} {folder.path.name}/{file} for {name}"


def new_password() -> bytes:
    """One line of random text that needs no quoting anywhere."""
    return secrets.token_urlsafe(_PASSWORD_BYTES).encode() + b"\n"
