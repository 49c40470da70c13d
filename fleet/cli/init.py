"""`python -m fleet init`: the operator's directory, with keys, certificates and the broker's files."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from contract.card import Name
from contract.config import ConfigError, parse_config
from fleet.cli.arguments import home_path, takes_dry_run, takes_home, takes_json
from fleet.cli.command import OK, Command
from fleet.founding import check_free, found
from fleet.settings import FleetSettings, Host, Url

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

# Where `make setup` puts a Mosquitto that is new enough; Debian 12's is not.
_OF_SETUP: Final = Path(__file__).parents[2] / ".stack/mosquitto/usr/sbin/mosquitto"
# Where Debian has servers; nobody's PATH leads there but root's.
_OF_ROOT: Final = "/usr/local/sbin:/usr/sbin"
_PLACE: Final = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<host>[^:]*))(?::(?P<port>[^:]*))?")


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument("--name", required=True, metavar="TEXT", help="the fleet's name, for people")
    parser.add_argument(
        "--group", required=True, action="append", metavar="GROUP", help="a Sparkplug group; repeat it for more"
    )
    parser.add_argument("--broker", required=True, metavar="HOST[:PORT]", help="the broker as devices know it (8883)")
    parser.add_argument(
        "--url", metavar="URL", help="the enrolment endpoint (default: https://HOST:8443 of the broker's)"
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="HOST", help="one more name or address of broker and endpoint"
    )
    parser.add_argument("--reached-at", metavar="HOST", help="the broker as this machine knows it, where that differs")
    takes_dry_run(parser)
    takes_json(parser)


def _init(args: Namespace) -> int:
    path, settings = home_path(args), _settings(args)
    check_free(path)
    if not args.dry_run:
        found(path, settings)
    if args.json:
        print(json.dumps({"home": str(path), "made": not args.dry_run, "settings": settings.model_dump(mode="json")}))
    elif args.dry_run:
        print(f"would make {path} with this fleet.yaml:\n\n{settings.to_yaml()}", end="")
    else:
        _tell(path, settings)
    return OK


def _settings(args: Namespace) -> FleetSettings:
    host, port = _parted(args.broker)
    _check_words(args, host)
    document = {
        "name": args.name,
        "groups": args.group,
        "broker": {
            "host": host,
            **({} if port is None else {"port": port}),
            "names": args.also,
            "reached_at": args.reached_at,
        },
        "url": args.url or f"https://{f'[{host}]' if ':' in host else host}:8443",
    }
    return parse_config(document, FleetSettings, "fleet init")


def _check_words(args: Namespace, host: str) -> None:
    """Raises ConfigError for what the settings would refuse in words of their own, and under names of their own."""
    for group in args.group:
        _check("--group", group, TypeAdapter(Name), "letters, digits, '.', '_' and '-', up to 64")
    _check("--broker", host, TypeAdapter(Host), "HOST[:PORT], such as mqtt.example")
    for name in args.also:
        _check("--also", name, TypeAdapter(Host), "a host's name or address")
    if args.reached_at is not None:
        _check("--reached-at", args.reached_at, TypeAdapter(Host), "a host's name or address")
    if args.url is not None:
        _check("--url", args.url, TypeAdapter(Url), "https://HOST:PORT, such as https://mqtt.example:8443")


def _check(option: str, found: str, kind: TypeAdapter[str], allowed: str) -> None:
    try:
        kind.validate_python(found)
    except ValidationError as exc:
        raise ConfigError(f"{option}: found {found!r}, allowed: {allowed}") from exc


def _parted(place: str) -> tuple[str, str | None]:
    """HOST, HOST:PORT, [ADDRESS]:PORT, or an address of IPv6 alone; raises ConfigError for what is no place."""
    if "/" in place:
        raise ConfigError(f"--broker: found {place!r}, allowed: HOST[:PORT], such as mqtt.example")
    found = _PLACE.fullmatch(place)
    if found is None:
        return place, None
    return found["address"] or found["host"], found["port"]


def _tell(path: Path, settings: FleetSettings) -> None:
    print(f"{path}: fleet {settings.name}, groups {', '.join(settings.groups)}")
    print(f"next: take {path / 'root/ca.key'} to a safe place off this machine; every day goes without it")
    mosquitto = _mosquitto()
    if mosquitto is None:
        print("next: `make setup` in the checkout, or apt-get install mosquitto: 2.0.21 or newer, as Debian 13 has it")
    print(f"next: {mosquitto or 'mosquitto'} -c {path / 'broker/mosquitto.conf'}")
    print("next: python -m fleet serve, python -m fleet enrol NODE")


def _mosquitto() -> Path | None:
    """The checkout's, which is new enough, or this machine's, whatever it is."""
    if _OF_SETUP.exists():
        here = Path.cwd()
        return _OF_SETUP.relative_to(here) if _OF_SETUP.is_relative_to(here) else _OF_SETUP
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{_OF_ROOT}")
    return None if found is None else Path(found)


INIT: Final = Command(
    "init", "make an operator's directory: authorities, the broker's certificate and files", _add_arguments, _init
)
