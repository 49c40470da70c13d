"""`python -m fleet host NAME`: a host application, such as a bridge, and its certificate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.enrolment import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from fleet.cli.arguments import open_home, takes_dry_run, takes_home, takes_json
from fleet.cli.command import OK, Command
from fleet.files import PUBLIC, make_folder, write_file

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.home import Home


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument("name", metavar="NAME", help="its host id, such as headwater-bridge; a known one is renewed")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"for {KEY_FILE}, {CERTIFICATE_FILE}, {CA_FILE} (default: HOME/hosts/NAME)",
    )
    takes_dry_run(parser)
    takes_json(parser)


def _host(args: Namespace) -> int:
    home = open_home(args)
    folder: Path = args.out or home.path / "hosts" / args.name
    home.check_host(args.name)
    if not args.dry_run:
        _make(home, args.name, folder)
    told = {"name": args.name, "directory": str(folder), "done": not args.dry_run}
    days = home.settings.lifetimes.server_days
    done = (
        f"{'would put' if args.dry_run else 'put'} key and certificate of {args.name} into {folder}, for {days:g} days"
    )
    print(json.dumps(told) if args.json else done)
    return OK


def _make(home: Home, name: str, folder: Path) -> None:
    home.add_host(name)
    identity = home.issue(name)
    make_folder(folder)
    write_file(folder / KEY_FILE, identity.key_pem)
    write_file(folder / CERTIFICATE_FILE, identity.chain_pem, PUBLIC)
    write_file(folder / CA_FILE, home.root_pem, PUBLIC)


HOST: Final = Command(
    "host", "give a host application, such as a bridge, a certificate for the broker", _add_arguments, _host
)
