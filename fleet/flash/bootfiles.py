"""Files of a FAT file system in an open file, by mtools: no mount, no rights.

Not by pyfatfs: that needs `fs`, and `fs` setuptools' pkg_resources, which is gone; and it follows a circle of clusters
for ever.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from threading import Timer
from typing import BinaryIO, Final

from fleet.errors import FleetError

_TOOLS: Final = ("mcopy", "mdeltree", "mdir", "mmd")
_TIMEOUT_S: Final = 600.0
_MAX_LISTING_BYTES: Final = 1 << 20
_MAX_ERROR_BYTES: Final = 1000
# Its own check wants the figures of disk drives of the eighties to add up; ours has been made before.
_ENVIRONMENT: Final = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "LC_ALL": "C.UTF-8"}


def require_tools() -> None:
    """Raises FleetError where mtools is not installed."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise FleetError(f"{', '.join(missing)} is not on this machine; install mtools (apt install mtools)")


@dataclass(frozen=True, slots=True)
class BootFiles:
    """The file system in `volume`, a file of this machine that holds nothing else and was found in order."""

    volume: BinaryIO

    def names(self) -> frozenset[str]:
        """What is in the root folder, in lower case as FAT does not tell the cases apart; a folder ends in a slash."""
        listing = self._run("mdir", "-a", "-b", "::", max_bytes=_MAX_LISTING_BYTES)
        return frozenset(line.removeprefix("::/").lower() for line in listing.decode(errors="replace").splitlines())

    def read(self, name: str, max_bytes: int) -> bytes:
        """A file's content; raises FleetError for one that is not there or is longer."""
        return self._run("mcopy", f"::{name}", "-", max_bytes=max_bytes)

    def remove_folder(self, name: str) -> None:
        """Removes a folder of the root folder with all that is in it, where there is one."""
        if f"{name.lower()}/" in self.names():
            self._run("mdeltree", f"::{name}")

    def make_folder(self, path: str) -> None:
        """A new folder."""
        self._run("mmd", f"::{path}")

    def write(self, name: str, content: bytes | BinaryIO) -> None:
        """Puts a file there, in the place of one of that name."""
        if not isinstance(content, bytes):
            self._run("mcopy", "-o", "-", f"::{name}", content=content)
            return
        # Through a file that has no name: a secret stands on no command line.
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            self._run("mcopy", "-o", "-", f"::{name}", content=file)

    def _run(self, tool: str, *arguments: str, content: BinaryIO | None = None, max_bytes: int = 0) -> bytes:
        """What the tool prints; raises FleetError where it fails, or is stopped as it prints more than `max_bytes`."""
        descriptor = self.volume.fileno()
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(  # noqa: S603 - mtools, and no shell
                [tool, "-i", f"/dev/fd/{descriptor}", *arguments],
                stdin=content or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=[descriptor],
                env=os.environ | _ENVIRONMENT,
            ) as process,
        ):
            assert process.stdout is not None
            impatience = Timer(_TIMEOUT_S, process.kill)
            impatience.start()
            try:
                output: bytes = process.stdout.read(max_bytes + 1)
                if len(output) > max_bytes:
                    process.kill()
                code = process.wait()
            finally:
                impatience.cancel()
            errors.seek(0)
            said = errors.read(_MAX_ERROR_BYTES).decode(errors="replace").partition("\n")[0]
        if len(output) > max_bytes:
            raise FleetError(f"{tool} {' '.join(arguments)}: more than {max_bytes} bytes, which is not right")
        if code:
            raise FleetError(f"{tool} {' '.join(arguments)}: {said or 'it took too long'}")
        return output
