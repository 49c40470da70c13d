"""The broker's folder, kept as the settings and the registry have it."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

from fleet.authority import is_list_of, revocation_list
from fleet.broker import files
from fleet.broker.witness import rights_of_witness
from fleet.files import PRIVATE, PUBLIC, make_folder, only_one, write_file
from fleet.operators import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.home import Home


def keep_files(home: Home) -> list[Path]:
    """Writes what has changed of the broker's files but its certificate; which."""
    folder = _folder(home)
    # What was read of the registry first shall not be written last.
    with only_one(folder / ".lock"):
        written = [path for path, content in _public(home, folder) if _put(path, content, PUBLIC)]
        # The last, for it tells what the others are. Mosquitto warns of an ACL that others can read.
        acl = folder / files.ACL_FILE
        return [*written, acl] if _put(acl, _acl(home, folder), PRIVATE) else written


def certificate_is_good(home: Home) -> bool:
    """Whether the broker's certificate names all its hosts and lives for some time yet."""
    return home.is_good(home.path / "broker" / files.IDENTITY_FILE, home.settings.server_names)


def renew_certificate(home: Home) -> Path:
    """Gives the broker a new key and certificate; `keep_files` comes after it."""
    path = _folder(home) / files.IDENTITY_FILE
    write_file(path, home.issue(files.BROKER, home.settings.server_names).pem)
    return path


def _folder(home: Home) -> Path:
    folder = home.path / "broker"
    for each in (folder, folder / "data"):
        make_folder(each)
    return folder


def _public(home: Home, folder: Path) -> Iterator[tuple[Path, bytes]]:
    there = home.settings.broker.directory or folder.absolute()
    yield folder / files.CONFIG_FILE, files.mosquitto_conf(home.settings.broker, there, _user(home)).encode()
    yield folder / files.CA_FILE, home.root_pem + home.issuing_pem
    yield folder / files.CRL_FILE, _list(home, folder / files.CRL_FILE)


def _user(home: Home) -> str | None:
    """The account that Mosquitto runs under when root starts it: its own could not look into the directory."""
    settings = home.settings.broker
    if settings.user is not None or settings.directory is not None:
        return settings.user
    try:
        return pwd.getpwuid(home.path.stat().st_uid).pw_name
    except KeyError:
        return None  # a user without a name, as in a container


def _list(home: Home, path: Path) -> bytes:
    """The CRL: the present one where it will do, for it has its time in it, and would be another each time."""
    authority, revoked = home.issuing(), home.registry.revoked()
    present = path.read_bytes() if path.exists() else b""
    return present if is_list_of(present, authority, revoked) else revocation_list(authority, revoked)


def _acl(home: Home, folder: Path) -> bytes:
    registry = home.registry
    rights = (
        *map(files.rights_of_operator, OPERATORS),
        *map(files.rights_of_host, registry.hosts()),
        *(files.rights_of_node(node) for node in registry.nodes() if node.revoked_at is None),
    )
    others = (files.CA_FILE, files.CRL_FILE, files.IDENTITY_FILE)
    contents = (path.read_bytes() for name in others if (path := folder / name).exists())
    return files.acl((*rights, rights_of_witness((files.acl(rights).encode(), *contents)))).encode()


def _put(path: Path, content: bytes, mode: int) -> bool:
    if path.exists() and path.read_bytes() == content:
        return False
    write_file(path, content, mode)
    return True
