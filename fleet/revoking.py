"""Calling back a device or a host application, so that the broker acts on it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.broker import end_session, keep_files, reload
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.home import Home


@dataclass(frozen=True, slots=True)
class Revocation:
    """What was done: certificates called back, and whether a broker was there to refuse them from now on."""

    name: str
    certificates: int
    broker_told: bool


def revoke(home: Home, name: str) -> Revocation:
    """Calls somebody back and ends his session, live or kept; raises FleetError.

    What stands in the registry and in the CRL stays there when a later step fails: call it again.
    """
    check_known(home, name)
    count = home.registry.revoke(name)
    keep_files(home)
    if told := reload(home):
        end_session(home, name)
    return Revocation(name, count, told)


def check_known(home: Home, name: str) -> None:
    """Raises FleetError where nobody is called so."""
    if name not in {*home.registry.hosts(), *(node.name for node in home.registry.nodes())}:
        raise FleetError(f"there is no node and no host application {name}")
