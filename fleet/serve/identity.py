"""Who the endpoint is to devices, and whom it takes for one."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.home import Home

ENDPOINT: Final = "headwater-endpoint"


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
    return home.keep(home.path / "serve/identity.pem", ENDPOINT, home.settings.server_names)
