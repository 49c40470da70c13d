"""Who is let in by the broker, and the end of a session."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from fleet.authority import issue
from fleet.broker.connecting import NotLetInError, connected
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.authority import Identity
    from fleet.home import Home

_MOMENT: Final = dt.timedelta(minutes=2)
# CONNECT of MQTT 3.1.1: a clean session, keep-alive 5 s, a client id that the broker replaces by the user.
_CONNECT: Final = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x"
_ACCEPTED: Final = b"\x20\x02\x00\x00"
_DISCONNECT: Final = b"\xe0\x00"


def end_session(home: Home, name: str) -> None:
    """Ends somebody's session, live or kept: one of that name comes, and leaves.

    His certificate is known to nobody else, and good for the time that this takes. Raises FleetError.
    """
    if not is_let_in(home, issue(home.issuing(), name, _MOMENT)):
        raise FleetError(f"the broker refuses who would end the session of {name}: see its log")


def is_let_in(home: Home, identity: Identity) -> bool:
    """Whether the broker takes one with this identity; he leaves at once. Raises FleetError where it is not there."""
    try:
        with connected(home, identity) as connection:
            connection.sendall(_CONNECT)
            if connection.recv(len(_ACCEPTED)) != _ACCEPTED:
                return False
            connection.sendall(_DISCONNECT)
            return True
    except NotLetInError:
        return False
