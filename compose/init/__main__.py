"""`python -m compose.init [make | device NODE | revoke NODE]`: certificates and passwords for the compose file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from compose.init.issue import BRIDGES, NODES, Secrets
from contract.errors import TopicError
from contract.topics import check_identifier

_HOSTS_VARIABLE = "HEADWATER_MQTT_HOSTS"


def main() -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args()
    secrets = Secrets(options.secrets, os.environ.get(_HOSTS_VARIABLE, "").split())
    try:
        if options.command == "device":
            sys.stdout.buffer.write(secrets.device(options.node))
            return 0
        if options.command == "revoke":
            return _revoke(secrets, options.node)
        done = list(secrets.make())
    except OSError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    print("\n".join(done) or "everything is there already")
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
    revoke = commands.add_parser("revoke", help="call back a device's certificates; the broker then wants a restart")
    revoke.add_argument("node", type=_node, help="its Sparkplug edge node id")
    return parser


def _revoke(secrets: Secrets, node: str) -> int:
    count = secrets.revoke(node)
    if count == 0:
        print(f"error: {node} was given no certificate that is still good", file=sys.stderr)
        return 1
    print(f"certificates of {node} called back: {count}; after a restart of mosquitto they are refused")
    return 0


def _node(name: str) -> str:
    try:
        check_identifier(name, "node")
    except TopicError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if name in {*BRIDGES, *NODES, "health", "mosquitto"}:
        raise argparse.ArgumentTypeError(f"{name} is a name of the compose file's own: choose another")
    return name


if __name__ == "__main__":
    sys.exit(main())
