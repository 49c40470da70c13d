"""The broker's folder, kept as the settings and the registry have it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from fleet.authority import Identity, is_list_of, revocation_list, still_good
from fleet.broker import files
from fleet.files import PRIVATE, PUBLIC, only_one, write_file
from fleet.operators import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.home import Home

# An operator looks in now and then.
_RENEWED_BEFORE: Final = dt.timedelta(days=60)


def keep_files(home: Home) -> list[Path]:
    """Writes what has changed of the files that the broker reads again on SIGHUP, and its configuration; which."""
    folder = home.path / "broker"
    for each in (folder, folder / "data"):
        each.mkdir(mode=0o700, exist_ok=True)
    # What was read of the registry first shall not be written last.
    with only_one(folder / ".lock"):
        written = [path for path, content, mode in _files(home) if _put(path, content, mode)]
        return [*written, *_keep_list(home)]


def certificate_is_good(home: Home) -> bool:
    """Whether the broker's certificate names all its hosts and lives for some time yet."""
    path = home.path / "broker" / files.IDENTITY_FILE
    until = dt.datetime.now(dt.UTC) + min(_RENEWED_BEFORE, home.settings.lifetimes.server / 3)
    names = home.settings.server_names
    return path.exists() and still_good(Identity(path.read_bytes()), home.issuing(), names, until)


def renew_certificate(home: Home) -> Path:
    """Gives the broker a new key and certificate."""
    path = home.path / "broker" / files.IDENTITY_FILE
    write_file(path, home.issue(files.BROKER, home.settings.server_names).pem)
    return path


def _files(home: Home) -> Iterator[tuple[Path, bytes, int]]:
    folder, settings = home.path / "broker", home.settings.broker
    there = settings.directory or folder.absolute()
    yield folder / files.CONFIG_FILE, files.mosquitto_conf(settings, there).encode(), PUBLIC
    # Mosquitto warns of an ACL that others can read.
    yield folder / files.ACL_FILE, _acl(home).encode(), PRIVATE
    yield folder / files.CA_FILE, home.root_pem + home.issuing_pem, PUBLIC


def _keep_list(home: Home) -> Iterator[Path]:
    """The CRL has its time in it, and would be another each time."""
    path, authority, revoked = home.path / "broker" / files.CRL_FILE, home.issuing(), home.registry.revoked()
    if not path.exists() or not is_list_of(path.read_bytes(), authority, revoked):
        write_file(path, revocation_list(authority, revoked), PUBLIC)
        yield path


def _acl(home: Home) -> str:
    registry = home.registry
    return files.acl(
        (
            *map(files.rights_of_operator, OPERATORS),
            *map(files.rights_of_host, registry.hosts()),
            *(files.rights_of_node(node) for node in registry.nodes() if node.revoked_at is None),
        )
    )


def _put(path: Path, content: bytes, mode: int) -> bool:
    if path.exists() and path.read_bytes() == content:
        return False
    write_file(path, content, mode)
    return True
