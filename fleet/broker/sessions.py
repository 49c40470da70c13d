"""Speaking to the broker as somebody, as far as it takes to see who is let in, and to take over a session."""

from __future__ import annotations

import socket
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.authority import issue
from fleet.errors import FleetError

if TYPE_CHECKING:
    import datetime as dt

    from fleet.authority import Identity
    from fleet.home import Home

_PATIENCE_S: Final = 10.0
# CONNECT of MQTT 3.1.1: a clean session, keep-alive 5 s, a client id that the broker replaces by the user.
_CONNECT: Final = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x"
_ACCEPTED: Final = b"\x20\x02\x00\x00"
_DISCONNECT: Final = b"\xe0\x00"


def end_session(home: Home, node: str, life: dt.timedelta) -> None:
    """Ends a node's session, live or kept: somebody of its name comes, and leaves.

    His certificate is known to nobody else, and good for the time that this takes. Raises FleetError.
    """
    if not is_let_in(home, issue(home.issuing(), node, life)):
        raise FleetError(f"the broker refuses who would end the session of {node}: see its log")


def is_let_in(home: Home, identity: Identity) -> bool:
    """Whether the broker takes one with this identity; he leaves at once. Raises FleetError where it is not there."""
    host, port = home.settings.broker.operators_host, home.settings.broker.port
    try:
        with (
            socket.create_connection((host, port), timeout=_PATIENCE_S) as plain,
            _context(home, identity).wrap_socket(plain, server_hostname=host) as connection,
        ):
            return _is_taken(connection)
    except ssl.SSLCertVerificationError as exc:
        raise FleetError(f"{host}:{port} is not the fleet's broker: {exc.verify_message}") from exc
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return False
    except OSError as exc:
        raise FleetError(f"the broker at {host}:{port} cannot be reached: {exc.strerror or exc}") from exc


def _is_taken(connection: ssl.SSLSocket) -> bool:
    connection.sendall(_CONNECT)
    if connection.recv(len(_ACCEPTED)) != _ACCEPTED:
        return False
    connection.sendall(_DISCONNECT)
    return True


def _context(home: Home, identity: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=home.path / "root/ca.pem")
    # Python's ssl takes keys from files alone.
    with tempfile.TemporaryDirectory(dir=home.path) as folder:
        file = Path(folder) / "identity.pem"
        file.touch(mode=0o600)
        file.write_bytes(identity.pem)
        context.load_cert_chain(file)
    return context
