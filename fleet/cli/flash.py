"""`python -m fleet flash IMAGE TARGET --node NODE`: a card, or an image of one, that becomes a node by itself."""

from __future__ import annotations

import getpass
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError, read_secret
from fleet.bundle import first_boot_script, read_about
from fleet.cli.arguments import open_home, takes_dry_run, takes_home, takes_json
from fleet.cli.bundle import BUNDLES, read_node_files, takes_node_files, with_card
from fleet.cli.command import OK, Command
from fleet.errors import FleetError
from fleet.flash import Load, flash, rehearse, wifi
from fleet.flash.devices import Machine, device_at
from fleet.flash.progress import Progress
from fleet.flash.target import device_target, file_target

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from contextlib import AbstractContextManager

    from fleet.bundle import NodeFiles
    from fleet.flash import Prepared, Wifi
    from fleet.flash.devices import Device
    from fleet.flash.target import Target
    from fleet.home import Home

FIRST_BOOT_FILE: Final = "first-boot.sh"
_UPDATES: Final = "*.update.tar.gz"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", type=Path, metavar="IMAGE", help="Raspberry Pi OS: .img, .img.xz or .img.zst")
    parser.add_argument("target", type=Path, metavar="TARGET", help="a card, such as /dev/sdb, or a file to make")
    parser.add_argument("--node", required=True, help="whose card it is")
    takes_node_files(parser)
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="of `fleet bundle --tar` (default: the newest in the home)"
    )
    parser.add_argument("--wifi", metavar="SSID", help="a wireless network; its password is asked for")
    parser.add_argument(
        "--wifi-password-file", type=Path, metavar="FILE", help="the password is this file's first line"
    )
    parser.add_argument("--wifi-country", metavar="CC", help="country whose rules for radio hold, such as DE")
    parser.add_argument("--sha256", metavar="HEX", help="what the image's file must have, as its publisher tells")
    parser.add_argument("--yes", action="store_true", help="do not ask for the device's name")
    parser.add_argument("--force", action="store_true", help="also a disk that is large or not removable, or a file")
    takes_home(parser)
    takes_dry_run(parser)
    takes_json(parser)


def _flash(args: Namespace) -> int:
    home = open_home(args)
    network = _wifi(args)
    files = read_node_files(args, args.node)
    bundle = _bundle(args, home)
    device = device_at(args.target, Machine())
    if device and (refusals := list(device.refusals(force=args.force))):
        raise FleetError("; ".join(f"{device.path}: {refusal}" for refusal in refusals))
    if args.dry_run:
        return _rehearse(args, _load(args, bundle, files, network), device)
    if device and not args.yes:
        _ask_for_name(device)
    load = _load(args, bundle, with_card(args, args.node, files), network)
    target = _target(args, device)
    began_s = time.monotonic()
    try:
        done = flash(args.image, target, load, Progress(sys.stderr), args.sha256)
    except KeyboardInterrupt:
        print(f"stopped: {_left_behind(args, device)}", file=sys.stderr)
        raise
    except FleetError as exc:
        raise FleetError(f"{exc}; {_left_behind(args, device)}") from exc
    took_s = time.monotonic() - began_s
    if args.json:
        _print_json(
            args,
            done.prepared,
            bytes=done.written.size_bytes,
            sha256=done.written.sha256,
            seconds=round(took_s, 1),
        )
    else:
        size_mib = done.written.size_bytes / (1 << 20)
        _print_prepared(args, done.prepared)
        print(
            f"{args.target}: {size_mib:.0f} MiB written and read back in {took_s:.0f} s, SHA-256 {done.written.sha256}"
        )
    return OK


def _load(args: Namespace, bundle: Path, files: NodeFiles, network: Wifi | None) -> Load:
    return Load(args.node, bundle, {FIRST_BOOT_FILE: first_boot_script(), **files.files}, network)


def _rehearse(args: Namespace, load: Load, device: Device | None) -> int:
    prepared, needed_bytes = rehearse(args.image, load)
    if device and needed_bytes > device.size_bytes:
        raise FleetError(f"{device.path}: has {device.size_bytes} bytes, and the image {needed_bytes}")
    if args.json:
        _print_json(args, prepared, bytes=needed_bytes)
    else:
        _print_prepared(args, prepared)
        print(f"{device.explained if device else args.target}: would be overwritten; nothing was written")
    return OK


def _print_prepared(args: Namespace, prepared: Prepared) -> None:
    print(f"{args.node}: first boot by {prepared.first_boot.value}; on the boot partition:")
    for path in prepared.paths:
        print(f"  {path}")


def _print_json(args: Namespace, prepared: Prepared, **figures: object) -> None:
    told = {
        "node": args.node,
        "image": str(args.image),
        "target": str(args.target),
        "dry_run": args.dry_run,
        "first_boot": prepared.first_boot.value,
        "files": prepared.paths,
    }
    print(json.dumps(told | figures))


def _left_behind(args: Namespace, device: Device | None) -> str:
    return f"{args.target} does not boot: flash it again" if device else f"nothing was left at {args.target}"


def _target(args: Namespace, device: Device | None) -> AbstractContextManager[Target]:
    return device_target(device, Machine()) if device else file_target(args.target, replace=args.force)


def _ask_for_name(device: Device) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to be asked whether the device is the right one: --yes says that it is")
    answer = input(f"all of {device.explained} will be overwritten; type {device.name} to go on: ")
    if answer.strip() != device.name:
        raise FleetError(f"{device.path}: left alone")


def _bundle(args: Namespace, home: Home) -> Path:
    """The bundle that was named, or the newest for any node or this one; raises FleetError for another node's."""
    if args.bundle is not None:
        given: Path = args.bundle
        if (owner := read_about(given).node) not in (None, args.node):
            raise FleetError(f"{given}: holds the enrolment of {owner}, and the card is for {args.node}")
        return given
    folder = home.path / BUNDLES
    found = sorted(folder.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        if not path.match(_UPDATES) and read_about(path).node in (None, args.node):
            return path
    raise FleetError(f"there is no bundle in {folder}: `fleet bundle --tar` makes one, --bundle names another")


def _wifi(args: Namespace) -> Wifi | None:
    if args.wifi is None:
        if args.wifi_country or args.wifi_password_file:
            raise ConfigError("--wifi-country and --wifi-password-file go with --wifi")
        return None
    if args.wifi_country is None:
        raise ConfigError(
            "--wifi-country is needed: a Raspberry Pi keeps its radio off until it knows whose rules hold"
        )
    password = read_secret("--wifi-password", None, args.wifi_password_file)
    if password is None:
        if not sys.stdin.isatty():
            raise ConfigError("nobody is there to be asked for the Wi-Fi password: --wifi-password-file names a file")
        password = getpass.getpass(f"password of {args.wifi}: ")
    return wifi(args.wifi, password, args.wifi_country)


FLASH: Final = Command(
    "flash", "write an image to a card, with what makes it a node at its first boot", _add_arguments, _flash
)
