"""Programs of other architectures, run by Debian's qemu-user-static through this kernel's binfmt_misc."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
# The package's own lines for `register`. By their flag F the kernel opens qemu now: containers need none of their own.
_RULES: Final = Path("/usr/lib/binfmt.d")
_QEMU: Final = {"arm64": "aarch64", "armhf": "arm"}


@contextmanager
def emulated(architecture: str) -> Iterator[None]:
    """While it lasts this kernel runs programs of a Debian architecture, in containers too; needs root and arch-test.

    A kernel that does so already is left as it is.
    """
    qemu = _QEMU[architecture]
    entry = _BINFMT / f"headwater-{qemu}"
    # One of our name is what a run that was killed has left.
    if not entry.exists():
        if _succeeds("arch-test", architecture):
            yield
            return
        if not (_BINFMT / "register").exists():
            _succeeds("mount", "-t", "binfmt_misc", "none", str(_BINFMT))
        rule = (_RULES / f"qemu-{qemu}.conf").read_text().strip()
        (_BINFMT / "register").write_text(rule.replace(f":qemu-{qemu}:", f":{entry.name}:", 1))
    try:
        yield
    finally:
        with suppress(FileNotFoundError):  # another run has ended meanwhile
            entry.write_text("-1")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603  # our own commands
