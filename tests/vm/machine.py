"""A virtual machine that boots the agent's own Python into a script, and whose power can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT: Final = Path(__file__).parents[2]
PREPARED: Final = CHECKOUT / ".stack" / "vm"
_DISK_BYTES: Final = 256 << 20
_MEMORY_MIB: Final = 512
_MODULES: Final = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
)
# Not what a script needs, and half of the library's size.
_LEFT_OUT: Final = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "ensurepip", "site-packages", "config-*"
)
_INIT: Final = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module.ko; done
for _ in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] || /bin/busybox sleep 0.5; done
/bin/busybox mount -t ext4 /dev/vda /disk || echo "FAULT no disk" >/dev/ttyS0
export PYTHONHOME={home} PYTHONPATH=/site:/checkout PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH={libraries}
{python} /guest.py >/dev/ttyS0 2>&1
echo "FAULT the script ended" >/dev/ttyS0
/bin/busybox poweroff -f
"""


def build_initramfs(directory: Path, guest: Path) -> Path:
    """An initramfs that runs `guest` with this interpreter, `edge` and `contract`; /disk is the disk."""
    root = directory / "root"
    for name in ("proc", "sys", "dev", "disk", "tmp", "modules", "bin", "site"):
        (root / name).mkdir(parents=True)
    shutil.copy(PREPARED / "bin" / "busybox", root / "bin" / "busybox")
    for module in _MODULES:
        for path in PREPARED.glob(f"**/{module}.ko"):
            shutil.copy(path, root / "modules")
    shutil.copy(guest, root / "guest.py")
    for role in ("edge", "contract"):
        shutil.copytree(CHECKOUT / role, root / "checkout" / role, ignore=shutil.ignore_patterns("__pycache__"))
    site = Path(sysconfig.get_path("purelib"))
    for package in ("google", "pydantic", "pydantic_core", "annotated_types", "typing_inspection", "yaml"):
        shutil.copytree(site / package, root / "site" / package)
    shutil.copy(site / "typing_extensions.py", root / "site")
    python, home = _copy_interpreter(root)
    libraries = _copy_libraries(root)
    init = root / "init"
    init.write_text(_INIT.format(modules=" ".join(_MODULES), home=home, python=python, libraries=libraries))
    init.chmod(0o755)
    image = directory / "initramfs"
    with image.open("wb") as out:
        listing = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
        command = [str(PREPARED / "bin" / "busybox"), "cpio", "-o", "-H", "newc"]
        subprocess.run(command, cwd=root, input=listing, stdout=out, stderr=subprocess.DEVNULL, check=True)
    return image


def _copy_interpreter(root: Path) -> tuple[Path, Path]:
    """Puts the interpreter and its library where they are here; returns where that is."""
    python = Path(sys.executable).resolve()
    (root / python.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(python, root / python.relative_to("/"))
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library, root / library.relative_to("/"), ignore=_LEFT_OUT, dirs_exist_ok=True)
    return python, Path(sys.base_prefix)


def _copy_libraries(root: Path) -> str:
    """Puts the shared objects that anything in `root` needs where they are here; returns a search path for them."""
    binaries = [
        path for path in root.rglob("*") if path.is_file() and (path.suffix == ".so" or os.access(path, os.X_OK))
    ]
    found = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    paths = {
        Path(word) for line in found.splitlines() for word in line.split() if word.startswith("/") and ".so" in word
    }
    libraries = {path for path in paths if path.exists() and not path.is_relative_to(root)}
    for path in libraries:
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return ":".join(sorted({str(path.parent) for path in libraries}))


def make_disk(path: Path) -> None:
    """An empty ext4 disk."""
    with path.open("wb") as disk:
        disk.truncate(_DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)


@contextlib.contextmanager
def running(initramfs: Path, disk: Path) -> Iterator[subprocess.Popen[str]]:
    """The machine; its serial line is `stdout`. Leaving the context cuts its power."""
    # cache=none: nothing of the disk stays in this machine's memory, so that what the guest had not flushed is gone.
    command = [
        *("qemu-system-x86_64", "-m", str(_MEMORY_MIB), "-nodefaults", "-no-reboot", "-display", "none"),
        # Emulated: slow, and the same everywhere; nested KVM stops some machines in the middle of booting.
        *("-accel", os.environ.get("HEADWATER_VM_ACCEL", "tcg"), "-serial", "stdio"),
        *("-kernel", str(next(PREPARED.glob("boot/vmlinuz-*"))), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 quiet loglevel=1 panic=-1"),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=none"),
    ]
    machine = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace")
    with machine:
        try:
            yield machine
        finally:
            machine.kill()
