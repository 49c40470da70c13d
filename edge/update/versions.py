"""Versions of the agent, side by side on the disk: one is unpacked, put on trial by the launcher, and confirmed.

What the launcher reads and writes is described in `edge.launcher`, which may be older than this.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field

from contract.archive import flush_directory
from contract.card import parse_document
from contract.config import ConfigError, parse_config
from edge.errors import NotNowError, UpdateError
from edge.launcher import (
    ROLLED_BACK_FILE,
    ROOT_VARIABLE,
    TRIAL_FILE,
    VERSION_VARIABLE,
    read_json,
    remove,
    seconds_left,
    write_json,
)
from edge.update.ledger import replace_file
from edge.update.unpacking import scratch_in, unpack_anew

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from contract.update import Desired

# What the operator's bundle says of itself.
_MANIFEST: Final = "manifest.json"
_DIGEST: Final = "archive.sha256"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,99}")
_MACHINES: Final = {
    "aarch64": "arm64",
    "armv8l": "armhf",  # a kernel of 64 bits, to a program that has asked for one of 32
    "armv7l": "armhf",
    "armv6l": "armhf",
    "x86_64": "amd64",
}
_CHECK_S: Final = 180.0
_SHOWN_CHARACTERS: Final = 400
_MAX_MANIFEST_BYTES: Final = 64 * 1024


class _Bundle(BaseModel):
    """What an agent's archive says that it is for; what else it says is for people."""

    format: Literal[1] = Field(default=1, description="how it is written")
    version: str = Field(description="which agent it is")
    arch: str = Field(description="machines that its libraries are for")
    python: str = Field(description="Python that its libraries are for")


class Versions:
    """The directory that the launcher starts from; `mine` is the version that runs.

    Methods raise UpdateError for a version that cannot run here, and NotNowError for what the disk does not do.
    """

    def __init__(self, root: Path, mine: str) -> None:
        self.root = root
        self.mine = mine
        self._versions = root / "versions"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Versions | None:
        """Where the launcher says that we run from; None where it did not start us."""
        root, mine = environment.get(ROOT_VARIABLE), environment.get(VERSION_VARIABLE)
        return cls(Path(root), mine) if root and mine else None

    @property
    def current(self) -> str:
        """The version that was confirmed last."""
        try:
            return (self.root / "current").readlink().name
        except OSError as exc:
            raise NotNowError(f"{self.root}/current: cannot be read: {exc.strerror}") from exc

    def is_running(self, desired: Desired) -> bool:
        """Whether it is what runs already; raises UpdateError where something else of its name does."""
        if desired.version != self.current:
            return False
        try:
            known = (self._versions / desired.version / _DIGEST).read_text(encoding="ascii").strip()
        except OSError:
            known = ""
        if known != desired.sha256:
            raise UpdateError(f"{desired.version} runs already, and is something else: give it a version of its own")
        return True

    async def install(self, desired: Desired, archive: Path, config_file: Path) -> None:
        """Unpacks a version and looks whether it could run here; raises UpdateError, and leaves nothing then."""
        with scratch_in(self._versions) as scratch:
            await asyncio.to_thread(unpack_anew, archive, desired, scratch)
            await asyncio.to_thread(self._check, desired, scratch)
            await _try_to_check(self._paths(scratch), config_file)
            await asyncio.to_thread(self._take_its_place, desired, scratch)

    def _take_its_place(self, desired: Desired, scratch: Path) -> None:
        replace_file(scratch / _DIGEST, desired.sha256.encode())
        place = self._versions / desired.version
        if place.exists():  # left by an update that was cut off, or put back
            shutil.rmtree(place)
        scratch.rename(place)
        flush_directory(self._versions)

    def begin_trial(self, desired: Desired, confirm_s: float, max_starts: int, failed_before: Collection[str]) -> None:
        """Has the launcher start it the next time."""
        trial = {"version": desired.version, "confirm_s": confirm_s, "max_starts": max_starts, "starts": 0}
        self._write(TRIAL_FILE, {**trial, "failed_before": sorted(failed_before)})

    def trial(self) -> dict[str, Any] | None:
        """What is on trial, None where nothing is."""
        return self._read(TRIAL_FILE)

    def seconds_left(self, trial: Mapping[str, Any]) -> float:
        """Until the deadline of a trial."""
        return seconds_left(dict(trial))

    def give_up(self, trial: Mapping[str, Any], reason: str) -> None:
        """The launcher puts back what was before, the next time."""
        self._write(TRIAL_FILE, {**trial, "failed": reason})

    def confirm(self) -> None:
        """What runs is what is started from now on, whatever happens."""
        link = self.root / ".current.new"
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(f"versions/{self.mine}")
            link.replace(self.root / "current")
            flush_directory(self.root)
            remove(self.root / TRIAL_FILE)
        except OSError as exc:
            raise NotNowError(f"{self.root}: cannot be switched: {exc.strerror}") from exc
        signal.setitimer(signal.ITIMER_REAL, 0)

    def rolled_back(self) -> tuple[str, str] | None:
        """The version that the launcher has put back, and why; None where there is none."""
        found = self._read(ROLLED_BACK_FILE)
        return None if found is None else (str(found.get("version")), str(found.get("reason")))

    def forget_rolled_back(self) -> None:
        """It is told."""
        self._remove(ROLLED_BACK_FILE)

    def drop_trial(self) -> None:
        """A trial that the launcher could not begin."""
        self._remove(TRIAL_FILE)

    def discard(self, version: str) -> None:
        """It was put back, and will not run again."""
        if _NAME.fullmatch(version) and version not in {self.mine, self.current}:
            shutil.rmtree(self._versions / version, ignore_errors=True)

    def prune(self, *wanted: str) -> None:
        """Deletes all versions but these."""
        for place in self._versions.iterdir():
            if place.name not in wanted and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)

    def _check(self, desired: Desired, place: Path) -> None:
        """Raises UpdateError for what is no agent, or none for this machine."""
        try:
            with (place / _MANIFEST).open("rb") as file:
                text = file.read(_MAX_MANIFEST_BYTES + 1)
            bundle = parse_config(parse_document(text, _MANIFEST), _Bundle, _MANIFEST)
        except FileNotFoundError:
            raise UpdateError(f"its archive: has no {_MANIFEST}") from None
        except ConfigError as exc:
            raise UpdateError(f"its archive: {'; '.join(str(exc).splitlines())}") from exc
        here = architecture(), f"{sys.version_info[0]}.{sys.version_info[1]}"
        if bundle.version != desired.version:
            raise UpdateError(f"its archive is of version {bundle.version}")
        if (bundle.arch, bundle.python) != here:
            raise UpdateError(
                f"it is for {bundle.arch} and Python {bundle.python}, and this is {here[0]} and {here[1]}"
            )
        for package in ("edge", "contract"):
            if not (place / "lib" / package).is_dir():
                raise UpdateError(f"its archive: has no lib/{package}")

    def _paths(self, place: Path) -> list[Path]:
        """What it imports from; raises UpdateError where libraries that it wants are not here."""
        paths, named = [place / "lib"], place / "deps"
        if named.exists():
            name = named.read_text(encoding="ascii", errors="replace").strip()
            if not _NAME.fullmatch(name) or not (self.root / "deps" / name).is_dir():
                raise UpdateError(f"it wants the libraries {name[:100]!r}, which are not here: send it whole")
            paths.append(self.root / "deps" / name)
        return paths

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return read_json(self.root / name)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise NotNowError(f"{self.root / name}: cannot be read: {exc.strerror}") from exc
        except ValueError as exc:
            raise UpdateError(f"{self.root / name}: cannot be read: {exc}") from exc

    def _write(self, name: str, content: dict[str, Any]) -> None:
        try:
            write_json(self.root / name, content)
        except OSError as exc:
            raise NotNowError(f"{self.root / name}: cannot be written: {exc.strerror}") from exc

    def _remove(self, name: str) -> None:
        try:
            remove(self.root / name)
        except OSError as exc:
            raise NotNowError(f"{self.root / name}: cannot be deleted: {exc.strerror}") from exc


def architecture() -> str:
    """As Debian calls this system's: Raspberry Pi OS of 32 bits has a kernel of 64, of which the machine is told."""
    machine = platform.machine()
    is_of_32_bits = struct.calcsize("P") == 4  # noqa: PLR2004 - the bytes of a pointer
    return "armhf" if machine == "aarch64" and is_of_32_bits else _MACHINES.get(machine, machine)


async def _try_to_check(paths: list[Path], config_file: Path) -> None:
    """Has the new agent read the present configuration; raises UpdateError where it cannot."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    # Systemd's channel is ours.
    environment.pop("NOTIFY_SOCKET", None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-s", "-m", "edge", "check", "--elsewhere", str(config_file)),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CHECK_S):
            _, stderr = await process.communicate()
    except TimeoutError:
        raise UpdateError(f"it does not check the present configuration within {_CHECK_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == -signal.SIGKILL:
        raise NotNowError("its check of the present configuration was killed: this machine may lack memory just now")
    if process.returncode:
        said = " ".join(stderr.decode(errors="replace").split())
        raise UpdateError(f"it cannot use the present configuration: {said[-_SHOWN_CHARACTERS:]}")
