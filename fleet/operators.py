"""Identities of the operator's tools: for the broker a name is one session, so each tool at work has one of its own."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - dataclasses show their annotations
from typing import TYPE_CHECKING, Final

from contract.config import Tls
from fleet.authority import key_digest
from fleet.errors import FleetError
from fleet.files import make_folder, only_one, open_lock, write_file

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from fleet.home import Home

OPERATORS: Final = tuple(f"headwater-operator-{number}" for number in range(1, 17))


@dataclass(frozen=True, slots=True)
class Operator:
    """Who a tool is at the broker: `name` is its user and its client id, whatever it asks for."""

    name: str
    host: str
    port: int
    identity_file: Path
    ca_file: Path

    def tls(self) -> ssl.SSLContext:
        """TLS with this identity, which trusts the fleet's root alone."""
        return Tls(ca_file=self.ca_file, cert_file=self.identity_file, key_file=self.identity_file).context()


def replace_operator(home: Home, name: str) -> int:
    """A new identity in the place of one, whose certificates are called back; how many there were."""
    folder = _folder(home)
    with only_one(folder / ".issuing"):
        made = home.issue(name)
        # First of all: cut off here, the one that is there is good, and not one that was called back.
        write_file(folder / f"{name}.pem", made.pem)
        return home.registry.revoke_certificates(name, but_key=key_digest(made.key.public_key()))


@contextmanager
def operator(home: Home) -> Iterator[Operator]:
    """The first one that is free; it is free again when this ends, however it ends."""
    folder = _folder(home)
    for name in OPERATORS:
        lock = open_lock(folder / f"{name}.lock")
        try:
            if _is_taken(lock):
                continue
            yield _operator(home, name, folder)
            return
        finally:
            os.close(lock)
    raise FleetError(f"{len(OPERATORS)} tools are at work on this fleet: end one")


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _folder(home: Home) -> Path:
    return make_folder(home.path / "operator")


def _operator(home: Home, name: str, folder: Path) -> Operator:
    broker = home.settings.broker
    with only_one(folder / ".issuing"):
        file = home.keep(folder / f"{name}.pem", name)
    return Operator(name, broker.operators_host, broker.port, file, home.path / "root/ca.pem")
