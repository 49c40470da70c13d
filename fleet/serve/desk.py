"""Who gets a certificate."""

from __future__ import annotations

import datetime as dt
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from contract.config import Config, ConfigError
from contract.enrolment import EnrolRequest, Issued, RenewRequest, read_message
from fleet.authority import RequestError, key_digest, requested_key
from fleet.broker import keep_files, reload
from fleet.cards import token_digest
from fleet.errors import FleetError
from fleet.registry import TokenError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from fleet.home import Home

logger = logging.getLogger(__name__)
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
        """A certificate for a token; those of the node's earlier keys are called back. Raises RefusedError."""
        request = _read(body, EnrolRequest)
        key = self._requested(request.csr, request.node)
        digest = key_digest(key)
        try:
            self._home.registry.use_token(request.node, token_digest(request.token.get_secret_value()), digest)
        except TokenError as exc:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{request.node}: {exc}", exc.told) from exc
        if (chain := self._answered_before(request.node, digest)) is None:
            chain = self._certify(request.node, key, "enrolled")
            self._supersede(request.node, digest)
        return Issued(certificate=chain)

    def renew(self, body: bytes, serial: int | None) -> Issued:
        """A certificate for who has shown the one with this number; raises RefusedError."""
        name = self._shown(serial)
        request = _read(body, RenewRequest)
        return Issued(certificate=self._certify(name, self._requested(request.csr, name), "renewed"))

    def _shown(self, serial: int | None) -> str:
        """Whose certificate it is: TLS has seen that it is of our authority, and has not expired."""
        if serial is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "no certificate was shown: a renewal needs the present one")
        found = self._home.registry.certificate(serial)
        if found is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, f"certificate {serial:x} is not in the registry")
        if found.revoked_at is not None:
            at = found.revoked_at.isoformat()
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{found.name}: this certificate was revoked at {at}")
        if found.name not in {node.name for node in self._home.registry.nodes()}:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{found.name} is no node: `fleet` itself renews its certificate")
        return found.name

    def _requested(self, csr: str, name: str) -> ec.EllipticCurvePublicKey:
        try:
            key = requested_key(csr.encode(), name)
        except RequestError as exc:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name}: {exc}") from exc
        if (owner := self._home.registry.owner_of_key(key_digest(key))) not in {None, name}:
            told = "this key is somebody else's"
            raise RefusedError(HTTPStatus.FORBIDDEN, f"{name}: the key in the CSR is {owner}'s", told)
        return key

    def _answered_before(self, name: str, digest: str) -> str | None:
        """What the same key was given already: its owner has not heard the answer, or asks twice at once."""
        now = dt.datetime.now(dt.UTC)
        for each in reversed(self._home.registry.certificates_of(name)):
            if each.key_sha256 == digest and each.revoked_at is None and each.ends_at > now:
                return each.chain
        return None

    def _certify(self, name: str, key: ec.EllipticCurvePublicKey, what: str) -> str:
        chain = self._home.certify(name, key).decode()
        logger.info("%s: %s, a certificate for %g days", name, what, self._home.settings.lifetimes.node_days)
        return chain

    def _supersede(self, name: str, digest: str) -> None:
        """A card that was lost, or a device that this one replaces, shall no longer be let in."""
        if count := self._home.registry.revoke_certificates(name, but_key=digest):
            logger.info("%s: certificates of its earlier keys called back: %d", name, count)
            try:
                keep_files(self._home)
                reload(self._home)
            except FleetError:
                logger.exception("%s: the broker has not heard that they were: `fleet broker`", name)


def _read(body: bytes, model: type[RequestT]) -> RequestT:
    try:
        return read_message(body, model, "request")
    except ConfigError as exc:
        # Not what was found there: it may be secret.
        where = exc.__cause__.errors() if isinstance(exc.__cause__, ValidationError) else []
        places = ", ".join(".".join(map(str, fault["loc"])) or "(top level)" for fault in where[:5])
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"the request is wrong at: {places or 'it is not JSON'}") from exc
