"""What command and logs share: the broker, who we are to it, and which node is meant."""

from __future__ import annotations

import os
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError, Tls
from contract.errors import TopicError
from contract.topics import check_identifier
from fleet.cli.arguments import open_home, seconds, takes_home
from fleet.cli.sight import home_if_any, no_group
from fleet.errors import FleetError
from fleet.session import Broker, Session
from fleet.view.wording import plain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_PASSWORD: Final = "HEADWATER_MQTT_PASSWORD"  # noqa: S105 - a variable's name
_PLAIN_PORT: Final = 1883
_TLS_PORT: Final = 8883
_SHORTEST_S: Final = 0.01
_LONGEST_S: Final = 600.0
_LAST_PORT: Final = 65_535


def takes_reach(parser: argparse.ArgumentParser, wait_s: float) -> None:
    """The options that say which broker, and as whom."""
    parser.add_argument(
        "--wait",
        type=seconds(_SHORTEST_S, _LONGEST_S),
        default=wait_s,
        metavar="S",
        help=f"seconds to wait for an answer (default: {wait_s:g})",
    )
    takes_home(parser)
    other = parser.add_argument_group("another broker than the home's")
    other.add_argument("--broker", metavar="HOST[:PORT]", help=f"port {_TLS_PORT}, without --ca {_PLAIN_PORT}")
    other.add_argument("--ca", type=Path, metavar="FILE", help="PEM of the authorities to trust; without it no TLS")
    other.add_argument("--cert", type=Path, metavar="FILE", help="PEM of our certificate")
    other.add_argument("--key", type=Path, metavar="FILE", help="PEM of our certificate's key")
    other.add_argument("--user", metavar="NAME", help=f"user name; {_PASSWORD} holds the password")


def which_node(args: argparse.Namespace) -> tuple[str, str]:
    """Group and name of the node that is meant: GROUP/NODE, or one of the home; raises ConfigError or FleetError.

    One that the home has revoked is not asked: nobody would answer.
    """
    group, slash, node = args.node.rpartition("/")
    try:
        check_identifier(node, "node")
        if slash:
            check_identifier(group, "group")
    except TopicError as exc:
        raise ConfigError(plain(exc)) from exc
    home = home_if_any(args) if not slash or args.broker is None else None
    # At the home's own broker there are no others; of another one nobody here knows.
    if slash and home is not None and group not in home.settings.groups:
        raise no_group("NODE: its group", group, home.settings.groups)
    known = () if home is None else home.registry.nodes()
    found = next((each for each in known if each.name == node and group in ("", each.group)), None)
    if found is not None and found.revoked_at is not None:
        raise FleetError(f"{node} was revoked at {found.revoked_at:%Y-%m-%d %H:%M %Z}: `fleet enrol` takes it in again")
    if slash:
        return group, node
    if home is None:
        raise ConfigError(f"{node}: of which group? Say GROUP/{node}, or --home DIR of the home that knows it")
    if found is None:
        raise FleetError(f"the home knows no node {node}; GROUP/NODE names one that was not enrolled by it")
    return found.group, node


@contextmanager
def reached(args: argparse.Namespace) -> Iterator[Session]:
    """A connection to the broker that was told, or to the home's; raises ConfigError or FleetError."""
    if args.broker is not None:
        with Session(_told(args)) as session:
            yield session
        return
    if args.ca or args.cert or args.key or args.user:
        raise ConfigError("--ca, --cert, --key and --user go with --broker")
    try:
        home = open_home(args)
    except ConfigError as exc:
        raise ConfigError(f"{exc}; or say --broker HOST") from exc
    with home.operator() as operator:
        broker = Broker(operator.host, operator.port, operator.name, operator.tls())
        with Session(broker) as session:
            yield session


def _told(args: argparse.Namespace) -> Broker:
    host, port = _address(args.broker, _PLAIN_PORT if args.ca is None else _TLS_PORT)
    if (args.cert is None) != (args.key is None):
        raise ConfigError("--cert and --key are given together or not at all")
    if args.ca is None and args.cert is not None:
        raise ConfigError("--cert needs --ca: a certificate is shown over TLS only")
    password = os.environ.get(_PASSWORD)
    if args.ca is None and args.user is not None and not _is_this_machine(host):
        raise ConfigError(f"--user: the password would go to {host} in the clear; --ca FILE has it go over TLS")
    tls = None if args.ca is None else Tls(ca_file=args.ca, cert_file=args.cert, key_file=args.key).context()
    return Broker(host, port, "", tls, username=args.user, password=password if args.user else None)


def _address(text: str, default_port: int) -> tuple[str, int]:
    """HOST, HOST:PORT, [HOST]:PORT or an address of IPv6."""
    host, colon, port = text.rpartition(":")
    if not colon or (text.count(":") > 1 and not host.endswith("]")):
        host, port = text, str(default_port)
    if not host.strip("[]") or not port.isdecimal() or not 1 <= int(port) <= _LAST_PORT:
        raise ConfigError(f"--broker: found {text!r}, allowed: HOST[:PORT]")
    return host.strip("[]"), int(port)


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
