"""`python -m fleet flash IMAGE TARGET --node NODE`: a card, or an image of one, that becomes a node by itself."""

from __future__ import annotations

import getpass
import json
import re
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
from fleet.flash import Load, flash, rehearse, room_for, wifi
from fleet.flash.devices import Machine, device_at
from fleet.flash.progress import Progress
from fleet.flash.target import check_device, check_file, device_target, file_target

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from fleet.bundle import NodeFiles
    from fleet.flash import Flashed, Prepared, Wifi
    from fleet.flash.devices import Device
    from fleet.home import Home

FIRST_BOOT_FILE: Final = "first-boot.sh"
_UPDATES: Final = "*.update.tar.gz"
_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
_NO_KEY: Final = "0" * 64


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
    network = _network(args)
    if args.sha256 is not None and not _SHA256.fullmatch(args.sha256):
        raise ConfigError(f"--sha256: found {args.sha256!r}, allowed: 64 hexadecimal digits")
    device = _device(args)
    bundle = _bundle(args, home)
    files = read_node_files(args, args.node)
    network = _with_key(args, network)
    if args.dry_run:
        return _rehearse(args, _load(args, bundle, files, network), device)
    if device and not args.yes:
        _ask_for_name(device)
    began_s = time.monotonic()
    # The token of a card that was made before is good until this one is written.
    with with_card(args, args.node, files) as whole:
        done = _flashed(args, device, _load(args, bundle, whole, network))
    _tell(args, done, time.monotonic() - began_s)
    return OK


def _device(args: Namespace) -> Device | None:
    """The disk that is meant, None where a file is; raises FleetError for what the image cannot be written to."""
    device = device_at(args.target, Machine())
    if device:
        check_device(device, force=args.force)
    else:
        check_file(args.target, replace=args.force)
    needed_bytes = room_for(args.image)
    if device and needed_bytes > device.size_bytes:
        raise FleetError(f"{device.path}: has {device.size_bytes} bytes, and the image {needed_bytes}")
    return device


def _load(args: Namespace, bundle: Path, files: NodeFiles, network: Wifi | None) -> Load:
    return Load(args.node, bundle, {FIRST_BOOT_FILE: first_boot_script(), **files.files}, network)


def _flashed(args: Namespace, device: Device | None, load: Load) -> Flashed:
    target = device_target(device, Machine()) if device else file_target(args.target, replace=args.force)
    try:
        return flash(args.image, target, load, Progress(sys.stderr), args.sha256)
    except KeyboardInterrupt:
        print(f"stopped: {_left_behind(args, device)}", file=sys.stderr)
        raise
    except FleetError as exc:
        raise FleetError(f"{exc}; {_left_behind(args, device)}") from exc


def _left_behind(args: Namespace, device: Device | None) -> str:
    if device:
        return f"{args.target} does not boot: flash it again"
    return f"{args.target} is as it was" if args.target.exists() else f"nothing was left at {args.target}"


def _tell(args: Namespace, done: Flashed, took_s: float) -> None:
    written = done.written
    if args.json:
        figures = {"bytes": written.size_bytes, "sha256": written.sha256, "seconds": round(took_s, 1)}
        _print_json(args, done.prepared, **figures)
        return
    size_mib = written.size_bytes / (1 << 20)
    _print_prepared(args, done.prepared)
    print(f"{args.target}: {size_mib:.0f} MiB written and read back in {took_s:.0f} s, SHA-256 {written.sha256}")


def _rehearse(args: Namespace, load: Load, device: Device | None) -> int:
    prepared = rehearse(args.image, load)
    if args.json:
        _print_json(args, prepared, bytes=room_for(args.image))
        return OK
    _print_prepared(args, prepared)
    what = "overwritten" if device else "replaced" if args.target.exists() else "made"
    print(f"{device.explained if device else args.target}: would be {what}; nothing was written")
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


def _network(args: Namespace) -> Wifi | None:
    """The wireless network, without its key; raises ConfigError."""
    if args.wifi is None:
        if args.wifi_country or args.wifi_password_file:
            raise ConfigError("--wifi-country and --wifi-password-file go with --wifi")
        return None
    if args.wifi_country is None:
        raise ConfigError(
            "--wifi-country is needed: a Raspberry Pi keeps its radio off until it knows whose rules hold"
        )
    return wifi(args.wifi, _NO_KEY, args.wifi_country)


def _with_key(args: Namespace, network: Wifi | None) -> Wifi | None:
    """With the key that its password makes; for a dry run nobody is asked for one."""
    if network is None:
        return None
    password = read_secret("--wifi-password", None, args.wifi_password_file)
    if password is None:
        if args.dry_run:
            return network
        if not sys.stdin.isatty():
            raise ConfigError("nobody is there to be asked for the Wi-Fi password: --wifi-password-file names a file")
        password = getpass.getpass(f"password of {args.wifi}: ")
    return wifi(args.wifi, password, args.wifi_country)


FLASH: Final = Command(
    "flash", "write an image to a card, with what makes it a node at its first boot", _add_arguments, _flash
)
