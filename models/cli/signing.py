"""`python -m models sign|verify PACKAGE`: the fleet's signature of a package that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.cli.command import OK, Command, takes_key
from models.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _add_sign(parser: ArgumentParser) -> None:
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="directory with a manifest.json")
    takes_key(parser)


def _sign(args: Namespace) -> int:
    from models.signing import sign  # noqa: PLC0415 - who signs nothing needs no cryptography

    if args.key is None:
        raise UsageError("sign: found no key, allowed: --key FILE, or HEADWATER_FLEET_KEY")
    sign(args.package, Path(args.key))
    print(f"{args.package}: signed")
    return OK


def _add_verify(parser: ArgumentParser) -> None:
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="directory with a manifest.json")
    parser.add_argument("public", type=Path, metavar="PUBLIC-KEY", help="the fleet's public key (Ed25519, PEM)")


def _verify(args: Namespace) -> int:
    from models.signing import verify  # noqa: PLC0415 - as above

    verify(args.package, args.public)
    print(f"{args.package}: is whole, and signed by the owner of {args.public}")
    return OK


SIGN = Command("sign", "sign a package that was made without a key", _add_sign, _sign)
VERIFY = Command("verify", "check a package's signature and files", _add_verify, _verify)
