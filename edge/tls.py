"""Why a TLS connection was not made, or was ended, in words for whoever reads the log."""

from __future__ import annotations

import contextlib
import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

# From OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_UNKNOWN_ISSUER: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_HOST: Final = frozenset({62, 64})

# What the other side may say of our certificate before it hangs up: OpenSSL's names for TLS's alerts.
_ALERTS: Final = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that our certificate is revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it does not accept a certificate of this kind",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "our certificate and our key do not belong together",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate, and we have shown none",
}
_REASON: Final = re.compile(r"\[SSL: (\w+)\]")


class TellingSocket(ssl.SSLSocket):
    """Says why it ends, as far as it was told, and is closed when its handshake fails.

    Paho and http.client see to neither; a context makes such sockets as its `sslsocket_class`.
    """

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's own
        """Shakes hands, or hangs up."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Sends; raises what the other side has said before it hung up, rather than that it has."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            # Whoever hangs up on us has said why before: that is still to be read, and is raised in here.
            with contextlib.suppress(ssl.SSLWantReadError):
                self.recv(1)
            raise


def explain(fault: BaseException) -> str | None:
    """Why TLS failed, by the error that came of it or what that was made from; None where TLS did not."""
    for link in _chain(fault):
        if isinstance(link, ssl.SSLCertVerificationError):
            return _distrust(link)
        if isinstance(link, ssl.SSLError) and link.reason in _ALERTS:
            return _ALERTS[link.reason]
    return None


def explain_text(message: str) -> str | None:
    """The same by the text of such an error."""
    found = _REASON.search(message)
    return _ALERTS.get(found[1]) if found else None


def _distrust(fault: ssl.SSLCertVerificationError) -> str:
    """Why we do not believe the other side."""
    by_our_clock = f"by this machine's clock, which says {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    match fault.verify_code:
        case code if code == _NOT_YET_VALID:
            return f"its certificate is not valid yet {by_our_clock}"
        case code if code == _EXPIRED:
            return f"its certificate has expired {by_our_clock}"
        case code if code in _UNKNOWN_ISSUER:
            return "its certificate is not of the authority that we trust"
        case code if code in _OTHER_HOST:
            return f"its certificate is for another host: {fault.verify_message}"
    return f"its certificate is not accepted: {fault.verify_message}"


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__ or fault.__context__
