"""`python -m fleet broker`: the broker's files and certificate brought up to date."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from fleet.broker import certificate_is_good, keep_files, reload, renew_certificate
from fleet.cli.arguments import open_home, takes_dry_run, takes_home, takes_json
from fleet.cli.command import FAILURE, OK, Command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.home import Home


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument("--renew", action="store_true", help="a new certificate, though the present one is good")
    takes_dry_run(parser)
    takes_json(parser)


def _broker(args: Namespace) -> int:
    home = open_home(args)
    renews = args.renew or not certificate_is_good(home)
    if args.dry_run:
        _say(args, {"renews": renews, "done": False}, _foretold(renews=renews))
        return OK
    renewed = [renew_certificate(home)] if renews else []
    written = [*renewed, *keep_files(home)]
    told = reload(home)
    files = [str(path) for path in written]
    text = "\n".join([*files, "the broker goes by them" if told else _untold(home)])
    _say(args, {"renews": renews, "done": True, "files": files, "broker_told": told}, text)
    return OK if told or _reads_here(home) else FAILURE


def _untold(home: Home) -> str:
    if _reads_here(home):
        return "the broker does not run: it reads them when it starts"
    return f"the broker was NOT told: bring it {home.path / 'broker'} and have it read that, or let broker.reload do it"


def _reads_here(home: Home) -> bool:
    """Whether it gets its files with nobody's help."""
    return home.settings.broker.directory is None


def _foretold(*, renews: bool) -> str:
    files = "would write what settings and registry have changed, and have the broker read it"
    return f"would give the broker a new certificate\n{files}" if renews else files


def _say(args: Namespace, told: dict[str, object], text: str) -> None:
    print(json.dumps(told) if args.json else text)


BROKER: Final = Command(
    "broker",
    "bring the broker's files up to date with fleet.yaml, and renew its certificate within 60 days of its end",
    _add_arguments,
    _broker,
)
