"""A card that was flashed to a file, and a virtual machine for arm64 that boots from it as a Raspberry Pi does."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stack import Command, ManagedProcess

PREPARED: Final = Path(__file__).parents[2] / ".stack" / "vm" / "arm64" / "card.img.zst"
_BOOT_AT: Final = 4 << 20
_MEMORY_MIB: Final = 1024
_FROM_CARD: Final = ("kernel8.img", "initramfs8", "cmdline.txt")
# Its journal comes over the serial line: what a test that fails has to show.
_TELLING: Final = "systemd.journald.forward_to_console=1 systemd.journald.max_level_console=info"


@dataclass(frozen=True)
class Card:
    """A card that was flashed to a file."""

    path: Path

    def read(self, name: str) -> bytes:
        """A file of its boot partition; empty where there is none."""
        return self._mtools("mcopy", f"::{name}", "-")

    def names(self) -> set[str]:
        """What is on its boot partition."""
        return {line.removeprefix("::/") for line in self._mtools("mdir", "-/", "-b", "::").decode().splitlines()}

    def _mtools(self, tool: str, *words: str) -> bytes:
        command = [tool, "-i", f"{self.path}@@{_BOOT_AT}", *words]
        return subprocess.run(command, capture_output=True, check=False).stdout

    def machine(self, folder: Path, console: Path) -> ManagedProcess:
        """A machine with kernel, initramfs and command line from the card, as the Pi's firmware reads them.

        To kill it is to cut its power.
        """
        for name in _FROM_CARD:
            (folder / name).write_bytes(self.read(name))
        words = [
            *("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", str(_MEMORY_MIB)),
            *("-nodefaults", "-no-reboot", "-display", "none", "-serial", f"file:{console}"),
            *("-kernel", str(folder / "kernel8.img"), "-initrd", str(folder / "initramfs8")),
            *("-append", f"{(folder / 'cmdline.txt').read_text().strip()} {_TELLING}"),
            # cache=none: what the guest has not flushed is gone with its power.
            *("-drive", f"file={self.path},format=raw,if=none,id=card,cache=none"),
            *("-device", "virtio-blk-pci,drive=card", "-device", "virtio-rng-pci"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"),
        ]
        return ManagedProcess("device", Command(words), log_path=folder / "qemu.log")
