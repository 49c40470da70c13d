"""Who gets a certificate."""

from __future__ import annotations

import datetime as dt
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from pydantic import ValidationError

from contract.config import Config, ConfigError
from contract.enrolment import RENEWED_AFTER, EnrolRequest, Issued, RenewRequest, read_message
from fleet.authority import RequestError, key_digest, requested_key
from fleet.broker import keep_files, reload
from fleet.cards import token_digest
from fleet.errors import FleetError
from fleet.files import only_one
from fleet.registry import TokenError
from fleet.revoking import shut_out

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cryptography.hazmat.primitives.asymmetric import ec

    from fleet.home import Home
    from fleet.registry import Certificate

logger = logging.getLogger(__name__)
# A device's clock may be ahead.
_RENEWED_FROM: Final = 0.75 * RENEWED_AFTER
# A warning: who asked with a second key for want of an answer, and went on with the first, looks the same.
_TWO_LINES: Final = (
    "%s: two renew its certificate, each from another one: a copy of its key may be in use, and one of the two will be "
    "locked out; `fleet revoke %s`, look at the device, and enrol it anew"
)
RequestT = TypeVar("RequestT", bound=Config)


class RefusedError(FleetError):
    """Somebody gets none. The message is for the log; `told` is what he hears, the same unless it is given."""

    def __init__(self, status: HTTPStatus, message: str, told: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.told = message if told is None else told


class Desk:
    """Answers requests, from any thread."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def enrol(self, body: bytes) -> Issued:
        """A certificate for a token; before it is given, those of the node's earlier keys are called back.

        Raises RefusedError, and FleetError where the broker was not told of what was called back: nothing is given
        then, and who asks again, as devices do, has it told again.
        """
        request = _read(body, EnrolRequest)
        key = self._requested(request.csr, request.node)
        with self._alone():
            chain = self._enrolled(request, key)
        if self._was_called_back(request.node):
            shut_out(self._home, request.node)
        return Issued(certificate=chain)

    def _enrolled(self, request: EnrolRequest, key: ec.EllipticCurvePublicKey) -> str:
        registry, digest = self._home.registry, key_digest(key)
        try:
            registry.use_token(request.node, token_digest(request.token.get_secret_value()), digest)
        except TokenError as exc:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{request.node}: {exc}", exc.told) from exc
        # Before anything is issued, and each time: who dies here has not left a card that was lost a good certificate.
        if count := registry.revoke_certificates(request.node, but_key=digest):
            logger.info("%s: certificates of its earlier keys called back: %d", request.node, count)
        return self._answered_before(request.node, digest) or self._certify(request.node, key, "enrolled")

    def renew(self, body: bytes, serial: int | None) -> Issued:
        """A certificate for who has shown the one with this number, which stays good; raises RefusedError.

        The answer may be lost: it is given again to the same key. Another key, as of two that ask at once, gets another
        certificate, for which of them the device goes on with is not known here until it shows it: what is older than
        that one is called back then. Where somebody else renews by a copy of the key, that may be the device's.
        """
        request = _read(body, RenewRequest)
        with self._alone():
            shown = self._shown(serial)
            key = self._requested(request.csr, shown.name)
            if count := self._home.registry.revoke_before(shown.serial):
                logger.info("%s: certificates before the one it uses called back: %d", shown.name, count)
            if self._home.registry.note_second_line(shown.serial):
                logger.warning(_TWO_LINES, shown.name, shown.name)
            answered = self._answered_before(shown.name, key_digest(key), after=shown.serial)
            chain = answered or self._certify(shown.name, key, "renewed", shown.serial)
        if self._was_called_back(shown.name):
            self._tell_broker(shown.name)
        return Issued(certificate=chain)

    def _shown(self, serial: int | None) -> Certificate:
        """The certificate: TLS has seen that it is of our authority, and has not expired."""
        if serial is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "no certificate was shown: a renewal needs the present one")
        found = self._home.registry.certificate(serial)
        if found is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, f"certificate {serial:x} is not in the registry")
        if found.revoked_at is not None:
            raise self._called_back(found, found.revoked_at)
        if found.name not in {node.name for node in self._home.registry.nodes()}:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{found.name} is no node: `fleet` itself renews its certificate")
        if _is_young(found):
            reason = f"{found.name}: its certificate is not old enough to be renewed"
            raise RefusedError(HTTPStatus.FORBIDDEN, reason)
        return found

    def _called_back(self, found: Certificate, at: dt.datetime) -> RefusedError:
        """The refusal; somebody hears of it where a device that has its key alone would not come with this one."""
        if self._home.registry.note_shown_again(found.serial):
            logger.error(
                "%s: a certificate that a renewal had called back is shown again: a copy of its key is in use, or of "
                "its card; `fleet revoke %s`, look at the device, and enrol it anew",
                found.name,
                found.name,
            )
        told = f"{found.name}: this certificate was revoked at {at.isoformat()}"
        return RefusedError(HTTPStatus.FORBIDDEN, told)

    def _requested(self, csr: str, name: str) -> ec.EllipticCurvePublicKey:
        try:
            key = requested_key(csr.encode(), name)
        except RequestError as exc:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name}: {exc}") from exc
        if (owner := self._home.registry.owner_of_key(key_digest(key))) not in {None, name}:
            told = "this key is somebody else's"
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{name}: the key in the CSR is {owner}'s", told)
        return key

    def _alone(self) -> AbstractContextManager[None]:
        """One after the other: of two that ask at once the same is known as of one that asks twice."""
        return only_one(self._home.path / "serve/.issuing")

    def _answered_before(self, name: str, digest: str, after: int | None = None) -> str | None:
        """What the same key was given already: its owner has not heard the answer, or asks twice at once.

        Where `after` is given, only of what was issued after the certificate with this number.
        """
        now = dt.datetime.now(dt.UTC)
        for each in reversed(self._home.registry.certificates_of(name)):
            if each.serial == after:
                break
            if each.key_sha256 == digest and each.revoked_at is None and each.ends_at > now:
                return each.chain
        return None

    def _certify(self, name: str, key: ec.EllipticCurvePublicKey, what: str, renewed_from: int | None = None) -> str:
        chain = self._home.certify(name, key, renewed_from).decode()
        logger.info("%s: %s, a certificate for %g days", name, what, self._home.settings.lifetimes.node_days)
        return chain

    def _was_called_back(self, name: str) -> bool:
        """Whether there is something of this name that the broker has to refuse."""
        now, known = dt.datetime.now(dt.UTC), self._home.registry.certificates_of(name)
        return any(each.revoked_at is not None and each.ends_at > now for each in known)

    def _tell_broker(self, name: str) -> None:
        try:
            keep_files(self._home)
            reload(self._home)
        except FleetError:
            # Its new certificate does not wait for that: it would be locked out for somebody else's fault.
            logger.exception("%s: the broker has not heard what was called back: `fleet broker`", name)


def _is_young(certificate: Certificate) -> bool:
    """Whether no device would ask for the next one yet: who has a copy of its key could renew, and renew again.

    What is older than a certificate that is shown is called back, the device's too. He locks it out all the same, but
    not at once: only after it has renewed, and been warned of, itself.
    """
    begins_at = x509.load_pem_x509_certificate(certificate.chain.encode()).not_valid_before_utc
    return dt.datetime.now(dt.UTC) - begins_at < _RENEWED_FROM * (certificate.ends_at - begins_at)


def _read(body: bytes, model: type[RequestT]) -> RequestT:
    try:
        return read_message(body, model, "request")
    except ConfigError as exc:
        # Not what was found there: it may be secret.
        where = exc.__cause__.errors() if isinstance(exc.__cause__, ValidationError) else []
        places = ", ".join(".".join(map(str, fault["loc"])) or "(top level)" for fault in where[:5])
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"the request is wrong at: {places or 'it is not JSON'}") from exc
