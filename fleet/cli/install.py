"""`python -m fleet install USER@HOST`: the agent on a device that already runs, over SSH."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract.config import ConfigError
from fleet.bundle import BundleKind, Order, make_bundle, read_about
from fleet.cli.arguments import takes_dry_run, takes_home, takes_json
from fleet.cli.bundle import check_wheels, read_node_files, takes_node_files, takes_wheels, with_card
from fleet.cli.command import FAILURE, OK, Command
from fleet.errors import FleetError
from fleet.install import Choices, Device, Remote, install, look_at
from fleet.view.wording import plain

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.bundle import NodeFiles

_STATES: Final = {
    "active": "the agent runs, and serves no health page that would say more",
    "unconfigured": "the agent starts when /etc/headwater/edge.yaml is there",
}
_DATA: Final = re.compile(r"^/[A-Za-z0-9._/-]+$")


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument("destination", metavar="USER@HOST", help="the device, as ssh takes it; USER may use sudo")
    parser.add_argument("node", nargs="?", metavar="NODE", help="who it shall be: a bundle is made for it")
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="this one instead, of `fleet bundle --tar`")
    takes_node_files(parser)
    takes_wheels(parser)
    parser.add_argument(
        "--data", metavar="DIR", help="a directory there to keep what changes, where its root is read-only"
    )
    parser.add_argument("--ssh-config", type=Path, metavar="FILE", help="for ssh, instead of ~/.ssh/config")
    parser.add_argument(
        "--wait", type=int, default=60, metavar="SECONDS", help="for the agent's first health (default: %(default)s)"
    )
    takes_dry_run(parser)
    takes_json(parser)


def _install(args: Namespace) -> int:
    _check_use(args)
    # What is wrong here is told before anybody types a password there.
    about = None if args.bundle is None else read_about(args.bundle)
    files = None if args.node is None else read_node_files(args, args.node)
    with Remote.connect(args.destination, args.ssh_config) as remote, tempfile.TemporaryDirectory() as scratch:
        device = look_at(remote)
        _say(f"{args.destination}: {device.target.arch} with Python {device.target.python}")
        if about is not None and about.target != device.target:
            raise FleetError(f"{args.bundle}: is for {about.target.arch} with Python {about.target.python}")
        bundle = _bundle(args, device, files, Path(scratch))
        if bundle is None:
            return _tell_plan(args, device)
        done = install(remote, device, bundle, Choices(args.data, args.wait), _say)
    return _tell(args, device, done.health)


def _check_use(args: Namespace) -> None:
    if (args.bundle is None) == (args.node is None):
        raise ConfigError("give either NODE, for which a bundle is made, or --bundle FILE")
    if args.node is None and (args.group or args.config or args.models or args.baked):
        raise ConfigError("--group, --config, --models and --baked go into a bundle: give NODE instead of --bundle")
    if args.data is not None and not _DATA.match(args.data):
        raise ConfigError(f"--data: found {args.data!r}, allowed: an absolute path of plain characters")
    check_wheels(args)


def _bundle(args: Namespace, device: Device, files: NodeFiles | None, scratch: Path) -> Path | None:
    """The one for this device, made where none was given; None: it would be made."""
    if args.dry_run:
        return None
    if files is None:
        return Path(args.bundle)
    with with_card(args, args.node, files) as whole:
        order = Order(BundleKind.TAR, device.target, args.node, whole)
        return make_bundle(order, scratch, args.wheels, folder=True, told=_say).path


def _tell_plan(args: Namespace, device: Device) -> int:
    what = str(args.bundle) if args.bundle is not None else f"a bundle for {args.node}"
    if args.json:
        print(
            json.dumps({"installed": False, "arch": device.target.arch, "python": device.target.python, "what": what})
        )
    else:
        print(f"would install {what}")
    return OK


def _tell(args: Namespace, device: Device, health: dict[str, Any]) -> int:
    """Says how the agent is; failure where it should run and does not."""
    if args.json:
        told = {"installed": True, "arch": device.target.arch, "python": device.target.python, "health": health}
        print(json.dumps(told))
    else:
        print(f"installed: {plain(_said(health))}")
    return OK if _answered(health) or health.get("state") in {"active", "unconfigured"} else FAILURE


def _said(health: dict[str, Any]) -> str:
    if not _answered(health):
        state = health.get("state")
        return _STATES.get(str(state), f"the agent does not say how it is; systemd calls it {state}")
    uplink = health["uplink"]
    link = (
        "connected" if uplink.get("connected") else f"not connected: {uplink.get('error') or 'it is still connecting'}"
    )
    return f"node {health.get('node')}, version {health.get('version')}, {link}"


def _answered(health: dict[str, Any]) -> bool:
    return isinstance(health.get("uplink"), dict)


def _say(text: str) -> None:
    """Progress, which is none of what programs read."""
    print(text, file=sys.stderr)


INSTALL: Final = Command("install", "the agent on a device that already runs, over SSH", _add_arguments, _install)
