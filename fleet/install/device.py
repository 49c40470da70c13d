"""A device that is installed on: what it is, and what it says afterwards."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleet.bundle import Target
from fleet.bundle.stage import device_file
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.install.remote import Remote

_LOOK: Final = """\
printf 'arch=%s\\n' "$(dpkg --print-architecture)"
printf 'python=%s\\n' "$(/usr/bin/python3 -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
printf 'uid=%s\\n' "$(id -u)"
printf 'sudo=%s\\n' "$(command -v sudo)"
"""
_FOLDER: Final = re.compile(r"^/[A-Za-z0-9._/-]+$")


@dataclass(frozen=True, slots=True)
class Device:
    """What a device is."""

    target: Target
    is_root: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """How it went: what the agent's health page said first; where it said nothing, the `state` of its unit alone."""

    health: dict[str, Any]


def look_at(remote: Remote) -> Device:
    """What the device is; raises FleetError where nothing can be installed on it."""
    told = dict(line.partition("=")[::2] for line in remote.ask(_LOOK).splitlines())
    try:
        device = Device(Target.parse(told.get("arch", ""), told.get("python", "")), told.get("uid") == "0")
    except FleetError as exc:
        raise FleetError(f"{remote.destination}: {exc}") from exc
    if not device.is_root and not told.get("sudo"):
        raise FleetError(f"{remote.destination}: is not root there, and there is no sudo: root@HOST, or install sudo")
    return device


@dataclass(frozen=True, slots=True)
class Choices:
    """How it shall be installed."""

    # A directory on a partition that is written to, where the root is not; None: none.
    data: str | None = None
    health_s: int = 60


def install(remote: Remote, device: Device, bundle: Path, choices: Choices, told: Callable[[str], None]) -> Installed:
    """Copies a bundle, installs it and waits for the agent's first word; `told` hears how far it is. Raises FleetError.

    What was copied, which may hold a token, is deleted whatever happens; `told` hears where it could not be.
    """
    with _folder(remote, told) as folder:
        _send(remote, bundle, f"{folder}/bundle.tar.gz", told)
        with tempfile.TemporaryDirectory() as here:
            for name in ("first-boot.sh", "first-health.sh"):
                script = Path(here) / name
                script.write_bytes(device_file(name))
                remote.send(script, f"{folder}/{name}", lambda _: None)
        remote.run(_command(folder, device, choices), terminal=_asks(device))
        return Installed(_health(remote.ask(f"cat {folder}/health.json")))


@contextmanager
def _folder(remote: Remote, told: Callable[[str], None]) -> Iterator[str]:
    folder = remote.ask("mktemp -d").strip()
    if not _FOLDER.match(folder):
        raise FleetError(f"{remote.destination}: made no directory but {folder!r}")
    try:
        yield folder
    except BaseException:
        try:
            remote.ask(f"rm -rf -- {folder}")
        except FleetError:
            # Why it failed says more than that this fails too, as it does where the connection is gone.
            told(f"{folder} is left on {remote.destination}: delete it, it may hold a token")
        raise
    remote.ask(f"rm -rf -- {folder}")


def _send(remote: Remote, bundle: Path, place: str, told: Callable[[str], None]) -> None:
    size, last = bundle.stat().st_size, -1

    def gone(sent_bytes: int) -> None:
        nonlocal last
        percent = 100 * sent_bytes // max(1, size)
        if percent // 10 != last // 10:
            last = percent
            told(f"copied {percent} %")

    remote.send(bundle, place, gone)


def _command(folder: str, device: Device, choices: Choices) -> str:
    data = "" if choices.data is None else f"--data {choices.data} "
    script = (
        f"sh {folder}/first-boot.sh --again {data}{folder} && "
        f"sh {folder}/first-health.sh {choices.health_s} >{folder}/health.json"
    )
    if device.is_root:
        return script
    # One sudo for all: it asks for a password once, on the terminal, or not at all.
    return f"sudo {'' if _asks(device) else '-n '}sh -c '{script}'"


def _asks(device: Device) -> bool:
    return not device.is_root and sys.stdin.isatty()


def _health(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"state": "unknown"}
