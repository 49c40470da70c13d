"""Calling back a device or a host application, so that the broker acts on it at once."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.broker import end_session, is_let_in, keep_files, reload
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.authority import Identity
    from fleet.home import Home

# One that is revoked together with whom it is about: when the broker refuses it, it has read its files.
CANARY: Final = "headwater-canary"
_MOMENT: Final = dt.timedelta(minutes=2)
_READ_WITHIN_S: Final = 15.0
_POLL_S: Final = 0.1


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
    canary = home.issue(CANARY, life=_MOMENT)
    home.registry.revoke_certificates(CANARY)
    count = home.registry.revoke(name)
    keep_files(home)
    told = reload(home)
    if told:
        _wait_until_refused(home, canary)
        end_session(home, name, _MOMENT)
    return Revocation(name, count, told)


def check_known(home: Home, name: str) -> None:
    """Raises FleetError where nobody is called so."""
    if name not in {*home.registry.hosts(), *(node.name for node in home.registry.nodes())}:
        raise FleetError(f"there is no node and no host application {name}")


def _wait_until_refused(home: Home, canary: Identity) -> None:
    deadline = time.monotonic() + _READ_WITHIN_S
    while is_let_in(home, canary):
        if time.monotonic() > deadline:
            raise FleetError(
                f"the broker was told, but after {_READ_WITHIN_S:g} s it does not go by the new CRL: see its log"
            )
        time.sleep(_POLL_S)
