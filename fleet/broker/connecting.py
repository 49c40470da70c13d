"""A connection to the broker as somebody."""

from __future__ import annotations

import socket
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.authority import Identity
    from fleet.home import Home

_PATIENCE_S: Final = 10.0


class NotLetInError(FleetError):
    """The broker has hung up on somebody."""


class NotThereError(FleetError):
    """The broker is not there, or is not ours."""


@contextmanager
def connected(home: Home, identity: Identity, at: str | None = None) -> Iterator[ssl.SSLSocket]:
    """TLS to the broker with an identity, `at` an address other than it is known by; raises the errors above."""
    host, port = home.settings.broker.operators_host, home.settings.broker.port
    try:
        with (
            socket.create_connection((at or host, port), timeout=_PATIENCE_S) as plain,
            _context(home, identity).wrap_socket(plain, server_hostname=host) as connection,
        ):
            yield connection
    except ssl.SSLCertVerificationError as exc:
        raise NotThereError(f"{host}:{port} is not the fleet's broker: {exc.verify_message}") from exc
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError) as exc:
        raise NotLetInError(f"the broker at {host}:{port} hangs up: {exc}") from exc
    except OSError as exc:
        raise NotThereError(f"the broker at {host}:{port} cannot be reached: {exc.strerror or exc}") from exc


def _context(home: Home, identity: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=home.path / "root/ca.pem")
    # Python's ssl takes keys from files alone.
    with tempfile.TemporaryDirectory(dir=home.path) as folder:
        file = Path(folder) / "identity.pem"
        file.touch(mode=0o600)
        file.write_bytes(identity.pem)
        context.load_cert_chain(file)
    return context
