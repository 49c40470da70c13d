"""`python -m fleet enrol NODE`: what a device needs to become a member, for a card or a bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from contract.enrolment import CA_FILE, CERTIFICATE_FILE, ENROLMENT_FILE, KEY_FILE
from fleet.cli.arguments import open_home, takes_dry_run, takes_home, takes_json
from fleet.cli.command import OK, Command
from fleet.files import PUBLIC, make_folder, write_file

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.cards import Card


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument("node", metavar="NODE", help="its edge node id; a known one gets a new token, its old is void")
    parser.add_argument("--group", metavar="GROUP", help="its Sparkplug group (default: its own, or the fleet's first)")
    parser.add_argument(
        "--baked", action="store_true", help="key and certificate instead of a token, for a site without network"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"where {ENROLMENT_FILE} goes, mode 0600 (default: standard output); "
        f"baked: {KEY_FILE}, {CERTIFICATE_FILE}, {CA_FILE} too",
    )
    takes_dry_run(parser)
    takes_json(parser)


def _enrol(args: Namespace) -> int:
    _check_use(args)
    home = open_home(args)
    group = home.group_for(args.node, args.group)
    told = {"node": args.node, "group": group, "baked": args.baked, "done": not args.dry_run}
    what = "a baked certificate" if args.baked else f"a token for {home.settings.lifetimes.token_hours:g} h"
    if args.dry_run:
        return _say(args, told, f"would make {what} for {group}/{args.node}")
    if args.out is not None:
        make_folder(args.out)
    home.add_node(args.node, args.group)
    with home.new_enrolment(args.node, baked=args.baked) as card:
        if card.certificate_ends_at is not None:
            what += f", good until {card.certificate_ends_at:%Y-%m-%d} or until the node renews a later one,"
            told["certificate_ends_at"] = card.certificate_ends_at.isoformat()
        if args.out is not None:
            told["files"] = [str(path) for path in _write(card, args.out)]
        elif args.json:
            told["enrolment"] = json.loads(card.to_json())
        else:
            sys.stdout.write(card.to_json().decode())
        where = "" if args.out is None else f", in {args.out}"
        _say(args, told, f"{what} for {group}/{args.node}{where}; it is kept nowhere else")
        # Only what was told voids a token of before.
        sys.stdout.flush()
    return OK


def _check_use(args: Namespace) -> None:
    if args.baked and args.out is None:
        raise ConfigError("--baked: needs --out, for a key is not for a terminal")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"--out: {args.out} is a file, allowed: a directory, there or to be made")


def _write(card: Card, folder: Path) -> list[Path]:
    files = {ENROLMENT_FILE: card.to_json()}
    if card.key_pem is not None and card.cert_pem is not None:
        files |= {KEY_FILE: card.key_pem, CERTIFICATE_FILE: card.cert_pem, CA_FILE: card.ca_pem}
    for name, content in files.items():
        write_file(folder / name, content, *([PUBLIC] if name == CA_FILE else []))
    return [folder / name for name in files]


def _say(args: Namespace, told: dict[str, object], text: str) -> int:
    if args.json:
        print(json.dumps(told))
    else:
        print(text, file=sys.stderr)
    return OK


ENROL: Final = Command("enrol", "give a device a one-time token, or a baked certificate", _add_arguments, _enrol)
