"""`python -m edge enrol ENROL_JSON --out DIR`: from what lies on the card to the node's own key and certificate."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract.config import ConfigError
from edge.cli.command import OK, Command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from edge.enrol.card import Card
    from edge.enrol.certificate import Certificate
    from edge.enrol.directory import IdentityDirectory
    from edge.enrol.enrolling import Plan

logger = logging.getLogger(__name__)

# As sysexits.h has it for what may work later: systemd can be told to try this one again, and no other.
NOT_YET: Final = 75
_WAIT_S: Final = 300.0
_DONE: Final = {"present": "is there already", "take in": "was baked in, and is in its place", "ask": "is there"}
_PLANNED: Final = {
    "present": "nothing: the identity is there already",
    "take in": "take in the key and the certificate that lie beside it",
    "ask": "make a key, and ask for its certificate",
}


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("enrolment", type=Path, metavar="ENROL_JSON", help="what the fleet's operator has put there")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where key.pem, cert.pem and ca.pem are wanted"
    )
    parser.add_argument(
        "--wait-s",
        type=float,
        default=_WAIT_S,
        metavar="SECONDS",
        help="how long to try while there is no network, the clock is not set or the disk is full, then exit code "
        f"{NOT_YET} (default: {_WAIT_S:g}; 0: once)",
    )
    parser.add_argument("--json", action="store_true", help="print what became of it as a JSON object")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def _enrol(args: Namespace) -> int:
    # cryptography, for which the other commands need not wait.
    from edge.enrol.card import Card  # noqa: PLC0415 - as above
    from edge.enrol.directory import IdentityDirectory  # noqa: PLC0415 - as above
    from edge.enrol.enrolling import plan  # noqa: PLC0415 - as above
    from edge.enrol.faults import NotYetError  # noqa: PLC0415 - as above
    from edge.enrol.files import acting_as_owner_of  # noqa: PLC0415 - as above

    if not 0 <= args.wait_s < math.inf:
        raise ConfigError(f"--wait-s: found {args.wait_s:g}, allowed: seconds, 0 or more")
    directory = IdentityDirectory(args.out)
    try:
        card = Card.read(args.enrolment)
        with acting_as_owner_of(args.out):
            planned = plan(card, directory)
            if args.dry_run:
                _tell_plan(planned, card, directory, as_json=args.json)
                return OK
            certificate = _carry_out(planned, card, directory, args.wait_s)
    except NotYetError as exc:
        print(f"edge: not yet: {exc}", file=sys.stderr)
        return NOT_YET
    _wipe(card)
    _tell_done(planned, certificate, directory, as_json=args.json)
    return OK


def _carry_out(planned: Plan, card: Card, directory: IdentityDirectory, wait_s: float) -> Certificate:
    from edge.enrol.enrolling import ask, take_in  # noqa: PLC0415 - as above

    if planned.step == "take in":
        return take_in(card, directory)
    if planned.step == "ask":
        return asyncio.run(ask(card, directory, wait_s))
    assert planned.present is not None  # else there would be something to do
    return planned.present


def _wipe(card: Card) -> None:
    try:
        card.wipe()
    except OSError as exc:
        logger.warning(
            "%s: token or key could not be taken out, though neither is needed any more: %s", card.path, exc.strerror
        )


def _tell_plan(planned: Plan, card: Card, directory: IdentityDirectory, *, as_json: bool) -> None:
    if as_json:
        _print_json(planned, planned.present, directory, dry_run=True)
        return
    enrolment = card.enrolment
    print(f"node {enrolment.group}/{enrolment.node} of {enrolment.fleet}, endpoint {enrolment.url}, into {directory}")
    print(f"would do: {_PLANNED[planned.step]}")


def _tell_done(planned: Plan, certificate: Certificate, directory: IdentityDirectory, *, as_json: bool) -> None:
    if as_json:
        _print_json(planned, certificate, directory)
        return
    print(f"the identity of {certificate.node} {_DONE[planned.step]}: {directory}, until {_day(certificate)}")


def _print_json(
    planned: Plan, certificate: Certificate | None, directory: IdentityDirectory, *, dry_run: bool = False
) -> None:
    told: dict[str, Any] = {"step": planned.step, "dry_run": dry_run, "directory": str(directory), "certificate": None}
    if certificate is not None:
        told["certificate"] = {
            "node": certificate.node,
            "serial": certificate.serial,
            "not_before": certificate.not_before.isoformat(),
            "not_after": certificate.not_after.isoformat(),
        }
    print(json.dumps(told, indent=2))


def _day(certificate: Certificate) -> str:
    return f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"


ENROL: Final = Command(
    "enrol",
    "make this node's key, get its certificate with the one-time token, and wipe the token; safe to repeat: exit "
    f"code 1 when it is refused, {NOT_YET} when nobody could be asked yet, or the disk is full",
    _add_arguments,
    _enrol,
)
