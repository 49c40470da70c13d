"""`python -m compose.init [COMMAND]`: certificates and passwords for the compose file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from compose.init.issue import BRIDGES, NODES, OPERATOR, Secrets
from contract.errors import TopicError
from contract.topics import check_identifier

_HOSTS_VARIABLE = "HEADWATER_MQTT_HOSTS"
_LONGEST_PASSWORD = 1024


def main() -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args()
    secrets = Secrets(options.secrets, os.environ.get(_HOSTS_VARIABLE, "").split())
    try:
        return _run(options, secrets)
    except OSError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, secrets: Secrets) -> int:
    match options.command:
        case "device":
            sys.stdout.buffer.write(secrets.given(options.node))
        case "operator":
            sys.stdout.buffer.write(secrets.given(OPERATOR))
        case "revoke":
            return _revoke(secrets, options.name)
        case "smtp-password":
            return _take_smtp_password(secrets)
        case _:
            print("\n".join(secrets.make()) or "everything is there already")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compose.init",
        description="Certificates and passwords, each where only its service reads it; safe to repeat.",
        epilog=f"{_HOSTS_VARIABLE}: more names and addresses by which devices know the broker, between spaces.",
    )
    parser.add_argument("--secrets", type=Path, default=Path("/secrets"), help="a folder a service (default: /secrets)")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("make", help="see to everything (what is done without a command)")
    device = commands.add_parser("device", help="write a new device's certificate to standard output, as a tar")
    device.add_argument("node", type=_node, help="its Sparkplug edge node id, which is its MQTT client id too")
    commands.add_parser("operator", help=f"write a certificate of {OPERATOR}, for `python -m fleet`, in the same way")
    revoke = commands.add_parser("revoke", help="call back what one was given; the broker then wants a restart")
    revoke.add_argument("name", type=_given, help=f"a device's Sparkplug edge node id, or {OPERATOR}")
    commands.add_parser("smtp-password", help="take the mail server's password, a line on standard input, for Grafana")
    return parser


def _revoke(secrets: Secrets, name: str) -> int:
    count = secrets.revoke(name)
    if count == 0:
        print(f"error: {name} was given no certificate that is still good", file=sys.stderr)
        return 1
    print(f"certificates of {name} called back: {count}; after a restart of mosquitto they are refused")
    return 0


def _take_smtp_password(secrets: Secrets) -> int:
    line = sys.stdin.buffer.readline(_LONGEST_PASSWORD + 1)
    if not 0 < len(line) <= _LONGEST_PASSWORD:
        print(f"error: found {len(line)} bytes, expected a line of at most {_LONGEST_PASSWORD}", file=sys.stderr)
        return 1
    secrets.smtp_password(line.rstrip(b"\r\n") + b"\n")
    print("Grafana has it after `docker compose restart grafana`")
    return 0


def _node(name: str) -> str:
    try:
        check_identifier(name, "node")
    except TopicError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if name in {*BRIDGES, *NODES, OPERATOR, "health", "mosquitto"}:
        raise argparse.ArgumentTypeError(f"{name} is a name of the compose file's own: choose another")
    return name


def _given(name: str) -> str:
    return name if name == OPERATOR else _node(name)


if __name__ == "__main__":
    sys.exit(main())
