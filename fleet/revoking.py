"""Calling back a device, a host application or an operator's tool, so that the broker acts on it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.broker import end_session, keep_files, reload
from fleet.errors import FleetError
from fleet.operators import OPERATORS, replace_operator

if TYPE_CHECKING:
    from fleet.home import Home


@dataclass(frozen=True, slots=True)
class Revocation:
    """What was done: certificates called back, and whether a broker was there to refuse them from now on.

    Of an operator's tools the certificates alone are called back: there is a new one at once.
    """

    name: str
    certificates: int
    is_replaced: bool
    broker_told: bool


def revoke(home: Home, name: str) -> Revocation:
    """Calls somebody back and ends his session, live or kept; raises FleetError.

    What stands in the registry and in the CRL stays there when a later step fails: call it again.
    """
    check_known(home, name)
    is_operator = name in OPERATORS
    count = replace_operator(home, name) if is_operator else home.registry.revoke(name)
    return Revocation(name, count, is_operator, shut_out(home, name))


def shut_out(home: Home, name: str) -> bool:
    """Has the broker refuse what was called back, and end the session of that name; False where there is no broker.

    Raises FleetError where it does not.
    """
    keep_files(home)
    if told := reload(home):
        end_session(home, name)
    return told


def check_known(home: Home, name: str) -> None:
    """Raises FleetError where nobody is called so."""
    if name not in {*OPERATORS, *home.registry.hosts(), *(node.name for node in home.registry.nodes())}:
        raise FleetError(f"there is no node, no host application and no operator {name}")
