"""The power of a virtual machine is cut while its spool is being filled: everything acknowledged is there after it.

`make vm-test` prepares the machine and runs this; it takes some minutes, most of them where there is no KVM.
"""

from __future__ import annotations

import importlib.util
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).parent
CUTS = 8
BOOT_S = 150.0
LONGEST_FILLING_S = 6.0


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"vm_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Run:
    """What the guest told between being switched on and the cut."""

    found: dict[str, tuple[int, int, int, str]] = field(default_factory=dict)  # lane -> epoch, oldest, next, fault
    acknowledged: dict[str, int] = field(default_factory=dict)
    plain: int = 0
    plain_found: int = 0

    def take(self, line: str) -> None:
        match line.split():
            case ["FOUND", lane, epoch, oldest, next_no, fault]:
                self.found[lane] = (int(epoch), int(oldest), int(next_no), fault)
            case ["ACK", lane, number]:
                self.acknowledged[lane] = int(number)
            case ["PLAIN", count]:
                self.plain = int(count)
            case ["PLAINFOUND", count]:
                self.plain_found = int(count)
            case ["FAULT" | "Traceback", *_]:
                raise AssertionError(line)


def until_cut(machine: ModuleType, initramfs: Path, disk: Path, filling_s: float) -> Run:
    """Boots, lets it fill the spool for so long, and cuts the power in the middle of whatever it does."""
    run, began_s = Run(), time.monotonic()
    cut_at_s = began_s + BOOT_S
    with machine.running(initramfs, disk) as guest:
        for line in guest.stdout:
            run.take(line)
            now_s = time.monotonic()
            if len(run.acknowledged) == len(run.found) > 0:
                cut_at_s = min(cut_at_s, now_s + filling_s)
            if now_s > cut_at_s:
                break
    assert run.acknowledged, f"nothing was spooled within {BOOT_S:g} s of switching on"
    return run


@pytest.mark.slow
def test_what_the_spool_acknowledged_survives_every_power_cut(tmp_path: Path) -> None:
    machine = load("machine")
    assert machine.PREPARED.joinpath("done").exists(), "run it by `make vm-test`"
    initramfs = machine.build_initramfs(tmp_path, HERE / "guest.py")
    disk = tmp_path / "disk"
    machine.make_disk(disk)
    luck = random.Random(3)
    before, plain_lost = Run(), 0
    for cut in range(1, CUTS + 1):
        run = until_cut(machine, initramfs, disk, luck.uniform(0.2, LONGEST_FILLING_S))
        for lane, (epoch, oldest, next_no, fault) in run.found.items():
            assert fault == "ok", (cut, lane)
            assert next_no > before.acknowledged.get(lane, 0), (cut, lane)
            assert oldest <= max(1, before.acknowledged.get(lane, 0)), (cut, lane)
            assert epoch > before.found.get(lane, (0,))[0], "the bridge may know more of the old one than is left"
        plain_lost += before.plain - run.plain_found
        total = sum(run.acknowledged.values())
        print(
            f"cut {cut}: {total} batches acknowledged so far, all before it found; a plain file lost {plain_lost} lines"
        )
        before = run
    assert plain_lost > 0, "a cut that costs nothing even without fsync proves nothing"
