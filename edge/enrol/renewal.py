"""The identity of a running agent: looked after, and renewed at two thirds of its certificate's life.

What lies in the directory is looked at again and again: another process may have enrolled the node anew. Whatever goes
wrong, the present key and certificate stay, and are used as long as the broker takes them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from contract.enrolment import CERTIFICATE_FILE, KEY_FILE, RENEW_PATH, RenewRequest
from edge.enrol.certificate import certificate_request
from edge.enrol.directory import Identity, IdentityDirectory
from edge.enrol.endpoint import Endpoint
from edge.enrol.faults import NotYetError
from edge.errors import IdentityError
from edge.schedule import backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.clock import AnchoredClock
    from edge.enrol.certificate import Certificate
    from edge.enrol.config import IdentityConfig

logger = logging.getLogger(__name__)

_LOOK_S: Final = 30.0
# Between tries, whatever the life: a minute at first, an hour at last. Of a short life, such as a test's, so much less.
_RETRY_S: Final = (60.0, 3600.0)
_RETRY_OF_LIFE: Final = (1 / 1000, 1 / 50)
_LOOK_OF_LIFE: Final = 1 / 100
# Nodes that were enrolled together do not all ask together: so much of the life later, at random.
_SPREAD_OF_LIFE: Final = 1 / 60
# What changes in a fault from one try to the next, such as the time: it is no news.
_NUMBERS: Final = re.compile(r"\d+")


@dataclass(slots=True)
class IdentityStatus:
    """What is known of the identity: its certificate, why it is not good or not renewed, and how often it was."""

    certificate: Certificate | None = None
    error: str | None = None
    renewals: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Attempt:
    """The renewal to come: how much later than it could, and when to try next."""

    spread: float = field(default_factory=random.random)
    next_s: float = 0.0


class Renewal:
    """Keeps the identity of `node` good; calls `changed` when another one has taken its place."""

    def __init__(
        self,
        config: IdentityConfig,
        node: str,
        clock: AnchoredClock,
        changed: Callable[[], None] = lambda: None,
        look_s: float = _LOOK_S,
    ) -> None:
        self.status = IdentityStatus()
        self._url = config.url
        self._node = node
        self._clock = clock
        self._changed = changed
        self._look_s = look_s
        self._directory = IdentityDirectory(config.directory)
        self._attempt: _Attempt | None = None
        self._told = ""

    async def run(self) -> None:
        """Looks after it until it is cancelled."""
        while True:
            try:
                identity, fault = await asyncio.to_thread(self._directory.read), None
            except IdentityError as exc:
                identity, fault = None, str(exc)
            await asyncio.sleep(await self._look_after(identity, fault))

    async def _look_after(self, identity: Identity | None, fault: str | None) -> float:
        """Does what is due; returns the seconds until the next look."""
        if identity is not None:
            try:
                self._take_note(identity.check())
            except IdentityError as exc:
                fault = str(exc)
        certificate = self.status.certificate
        if identity is None or certificate is None or fault is not None:
            missing = f"there is no identity in {self._directory} yet: `python -m edge enrol` puts one there"
            self._tell(fault or missing)
            return self._look_s
        life_s = (certificate.not_after - certificate.not_before).total_seconds()
        if (fault := self._unfit(certificate)) is not None:
            self._tell(fault)
        elif self._is_due(certificate, life_s):
            return await self._renew(identity, certificate, life_s)
        elif not self.status.failures:
            self._tell(None)
        return min(self._look_s, life_s * _LOOK_OF_LIFE)

    def _take_note(self, certificate: Certificate) -> None:
        before, self.status.certificate = self.status.certificate, certificate
        if before == certificate:
            return
        self._attempt, self.status.failures = _Attempt(), 0
        logger.info("the certificate of %s is good until %s", certificate.node, _spelt(certificate.not_after))
        if before is not None:
            self._changed()

    def _unfit(self, certificate: Certificate) -> str | None:
        """What no renewal would help against."""
        if certificate.node != self._node:
            return f"the identity in {self._directory} is that of {certificate.node}, and this is {self._node}"
        now = self._now()
        if now < certificate.not_before:
            return (
                f"the certificate is good from {_spelt(certificate.not_before)} on, and this machine's clock says "
                f"{_spelt(now)}: until it is set, no broker can be believed"
            )
        if now >= certificate.not_after:
            return (
                f"the certificate has expired on {_spelt(certificate.not_after)}: what is read is kept until there is "
                f"another; get a token by `fleet enrol {self._node}`, and use it by `python -m edge enrol`"
            )
        return None

    def _is_due(self, certificate: Certificate, life_s: float) -> bool:
        # A clock that may yet be set knows of no two thirds.
        if self._attempt is None or self._clock.booted_ms() is None:
            return False
        due_at = certificate.renewed_from + timedelta(seconds=self._attempt.spread * life_s * _SPREAD_OF_LIFE)
        return self._now() >= due_at and asyncio.get_running_loop().time() >= self._attempt.next_s

    async def _renew(self, identity: Identity, certificate: Certificate, life_s: float) -> float:
        """Tries once; returns the seconds until the next look."""
        assert self._attempt is not None  # else it is not due
        try:
            self._take_note(await self._ask(identity, certificate))
        except IdentityError as exc:
            self.status.failures += 1
            pause_s = max(exc.pause_s if isinstance(exc, NotYetError) else 0.0, self._pause_s(life_s))
            self._attempt.next_s = asyncio.get_running_loop().time() + pause_s
            self._tell(f"the certificate ends on {_spelt(certificate.not_after)}, and is not renewed: {exc}")
            return min(self._look_s, pause_s)
        self.status.renewals += 1
        self._tell(None)
        return self._look_s

    async def _ask(self, identity: Identity, certificate: Certificate) -> Certificate:
        enrolment, files = identity.enrolment, self._directory.path
        # On the disk before it is shown: the fleet may have certified it though we never hear so, and may give no
        # second certificate for the present one.
        key_pem = await asyncio.to_thread(self._directory.key_to_ask_with, certificate.serial)
        endpoint = Endpoint(self._url or enrolment.url, enrolment.ca_pem, (files / CERTIFICATE_FILE, files / KEY_FILE))
        request = RenewRequest(csr=certificate_request(key_pem, self._node))
        chain_pem = await endpoint.ask(RENEW_PATH, request)
        renewed = Identity(enrolment, key_pem, chain_pem, identity.token_sha256)
        # Somebody may have enrolled the node anew meanwhile: that is newer than what was asked for.
        return await asyncio.to_thread(self._directory.put, renewed, instead_of=certificate.serial)

    def _pause_s(self, life_s: float) -> float:
        base_s, cap_s = (
            min(longest, life_s * of_life) for longest, of_life in zip(_RETRY_S, _RETRY_OF_LIFE, strict=True)
        )
        return backoff_s(self.status.failures, random.random(), base_s=base_s, cap_s=cap_s)  # noqa: S311 - no secret

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC)

    def _tell(self, fault: str | None) -> None:
        """Notes what is wrong, None: nothing; logs what is new, and once that it is well again."""
        kind = _NUMBERS.sub("", fault or "")
        if fault is not None and kind != self._told:
            logger.warning("%s", fault)
        elif fault is None and self._told:
            logger.info("the identity is well again")
        self._told, self.status.error = kind, fault


def _spelt(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
