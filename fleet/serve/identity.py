"""Who the endpoint is to devices, and whom it takes for one."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING, Final

from fleet.authority import Identity, still_good
from fleet.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.home import Home

ENDPOINT: Final = "headwater-endpoint"
_RENEWED_BEFORE: Final = dt.timedelta(days=60)


def server_context(home: Home) -> ssl.SSLContext:
    """TLS with the endpoint's certificate; who shows one of his own must have it of this fleet's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=(home.root_pem + home.issuing_pem).decode())
    context.load_cert_chain(keep_identity(home))
    return context


def keep_identity(home: Home) -> Path:
    """The endpoint's key and certificate, made anew where they do not name all hosts or end soon."""
    path = home.path / "serve/identity.pem"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    until = dt.datetime.now(dt.UTC) + min(_RENEWED_BEFORE, home.settings.lifetimes.server / 3)
    names = home.settings.server_names
    if not path.exists() or not still_good(Identity(path.read_bytes()), home.issuing(), names, until):
        write_file(path, home.issue(ENDPOINT, names).pem)
    return path
