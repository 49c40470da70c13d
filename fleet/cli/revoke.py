"""`python -m fleet revoke NAME`: no longer let in, from now on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from fleet.cli.arguments import open_home, takes_dry_run, takes_home, takes_json
from fleet.cli.command import FAILURE, OK, Command
from fleet.revoking import check_known, revoke

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.home import Home


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument(
        "name", metavar="NAME", help="a node, a host application, or one of the operator's tools: headwater-operator-N"
    )
    takes_dry_run(parser)
    takes_json(parser)


def _revoke(args: Namespace) -> int:
    home = open_home(args)
    check_known(home, args.name)
    if args.dry_run:
        return _foretell(home, args)
    done = revoke(home, args.name)
    if args.json:
        print(json.dumps({**asdict(done), "done": True}))
        return OK if done.broker_told else FAILURE
    also = " called back, and a new one made" if done.is_replaced else " and its token called back"
    print(f"{args.name}: {done.certificates} certificates{also}")
    if done.broker_told:
        print("the broker refuses them, and the session has ended")
        return OK
    print("the broker was NOT told, and takes them until it reads broker/crl.pem and broker/acl: `fleet broker`")
    return FAILURE


def _foretell(home: Home, args: Namespace) -> int:
    count = sum(each.revoked_at is None for each in home.registry.certificates_of(args.name))
    if args.json:
        print(json.dumps({"name": args.name, "certificates": count, "done": False}))
    else:
        print(f"would call back {args.name} with {count} certificates, and end its session")
    return OK


REVOKE: Final = Command(
    "revoke",
    "call back a device, a bridge or an operator: refused from now on, the session ended",
    _add_arguments,
    _revoke,
)
