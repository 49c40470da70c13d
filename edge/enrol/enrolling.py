"""From what lies on a card to an identity: asked for until there is a network, safe to repeat, cut off wherever."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from contract.enrolment import ENROL_PATH, EnrolRequest
from edge.enrol.certificate import certificate_request, read_certificate
from edge.enrol.directory import Identity, without_token
from edge.enrol.endpoint import Endpoint
from edge.enrol.faults import NotYetError
from edge.errors import IdentityError
from edge.schedule import backoff_s

if TYPE_CHECKING:
    from edge.enrol.card import Card
    from edge.enrol.certificate import Certificate
    from edge.enrol.directory import IdentityDirectory

logger = logging.getLogger(__name__)

_RETRY_BASE_S: Final = 1.0
_RETRY_CAP_S: Final = 60.0

Step = Literal["present", "take in", "ask"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to have the identity that a card speaks of; `present` is the one that is there."""

    step: Step
    present: Certificate | None


def plan(card: Card, directory: IdentityDirectory) -> Plan:
    """Looks at what is there; raises IdentityError where nothing leads to an identity."""
    try:
        found = directory.read()
        present = None if found is None else found.check()
    except NotYetError:
        raise  # what cannot be read now may well be an identity
    except IdentityError as exc:
        logger.warning("what lies in %s is no identity: %s", directory, exc)
        found = present = None
    if card.token_sha256 is not None:
        # A token of which nothing is known is a new one: somebody wants another certificate, and will know why.
        is_done = found is not None and present is not None and found.token_sha256 == card.token_sha256
        return Plan("present" if is_done else "ask", present)
    if card.baked is not None:
        return Plan("present" if _is_as_good(found, present, card.baked) else "take in", present)
    if present is None:
        raise IdentityError(
            f"there is no identity in {directory}, and no token in {card.path}: get a new one, by `fleet enrol "
            f"{card.enrolment.node}`"
        )
    if present.node != card.enrolment.node:
        raise IdentityError(f"the identity in {directory} is that of {present.node}, and {card.path} is another node's")
    return Plan("present", present)


def _is_as_good(found: Identity | None, present: Certificate | None, baked: Identity) -> bool:
    """Whether what is there is what was baked, or younger: it may have been renewed since."""
    if found is None or present is None:
        return False
    same = found.enrolment.ca_pem == baked.enrolment.ca_pem and present.node == baked.enrolment.node
    return same and present.not_before >= read_certificate(baked.chain_pem).not_before


def take_in(card: Card, directory: IdentityDirectory) -> Certificate:
    """Puts what was baked where it belongs; raises IdentityError."""
    assert card.baked is not None  # so it was planned
    return directory.put(card.baked)


async def ask(card: Card, directory: IdentityDirectory, wait_s: float) -> Certificate:
    """Asks for a certificate, and puts it there; for `wait_s` again and again, while there is no network or no room.

    Raises NotYetError when that is over, and IdentityError when it was refused.
    """
    loop = asyncio.get_running_loop()
    deadline_s, told = loop.time() + wait_s, ""
    failures = 0
    while True:
        try:
            return await _ask_once(card, directory)
        except NotYetError as exc:
            failures += 1
            pause_s = max(exc.pause_s, backoff_s(failures, random.random(), base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S))  # noqa: S311 - no secret
            if loop.time() + pause_s > deadline_s:
                raise
            if str(exc) != told:
                logger.warning("not yet: %s; tried again until it works", exc)
            told = str(exc)
        await asyncio.sleep(pause_s)


async def _ask_once(card: Card, directory: IdentityDirectory) -> Certificate:
    enrolment, token_sha256 = card.enrolment, card.token_sha256
    assert enrolment.token is not None  # so it was planned
    assert token_sha256 is not None  # as there is one
    # On the disk before it is shown to anybody: whatever happens then, the same key asks again.
    key_pem = directory.key_to_ask_with(token_sha256)
    csr = certificate_request(key_pem, enrolment.node)
    request = EnrolRequest(node=enrolment.node, token=enrolment.token, csr=csr)
    chain_pem = await Endpoint(enrolment.url, enrolment.ca_pem).ask(ENROL_PATH, request)
    return directory.put(Identity(without_token(enrolment), key_pem, chain_pem, token_sha256))
