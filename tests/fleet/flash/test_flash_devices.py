"""What may be overwritten: a card that nobody uses, and nothing of the system's."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import FleetError
from fleet.flash import Load, flash
from fleet.flash.devices import Machine, describe, device_at, is_block_device, look_at
from fleet.flash.progress import Progress
from fleet.flash.target import check_device, check_file, device_target, file_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.flash.target import Target

GB = 10**9
ROOT_LINE = "22 1 253:0 / / rw shared:1 - ext4 /dev/mapper/root rw\n"


class FakeMachine:
    """A folder that tells of devices as Linux does."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder / "sys", folder / "proc")
        (folder / "sys" / "dev" / "block").mkdir(parents=True)
        (folder / "proc" / "self").mkdir(parents=True)
        self.mounts("")
        (folder / "proc" / "swaps").write_text("Filename Type Size Used Priority\n")

    def disk(self, number: str, where: str, told: dict[str, str] | None = None, gigabytes: float = 32) -> Path:
        folder = self.machine.sys / "devices" / where
        for name, content in {
            "size": str(int(gigabytes * GB / 512)),
            "queue/logical_block_size": "512",
            **(told or {}),
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content + "\n")
        (self.machine.sys / "dev" / "block" / number).symlink_to(folder)
        return folder

    def mounts(self, lines: str) -> None:
        (self.machine.proc / "self" / "mountinfo").write_text("21 1 0:20 / /proc rw - proc proc rw\n" + lines)

    def refusals(self, number: str, *, force: bool = False) -> list[str]:
        major, minor = map(int, number.split(":"))
        device = describe(Path("/dev/it"), os.makedev(major, minor), self.machine)
        return list(device.refusals(force=force))


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("pci/usb1/1-2/host6/block/sdb", {"removable": "0"}),
        ("pci/ata1/block/sdb", {"removable": "1"}),
        ("platform/mmc0/block/mmcblk0", {"removable": "0", "device/type": "SD"}),
    ],
)
def test_a_card_in_any_reader_is_taken(machine: FakeMachine, where: str, told: dict[str, str]) -> None:
    machine.disk("8:16", where, told)
    assert machine.refusals("8:16") == []


def test_a_disk_that_is_built_in_or_large_needs_force(machine: FakeMachine) -> None:
    machine.disk("8:0", "pci/ata1/block/sda", gigabytes=2000)
    assert machine.refusals("8:0") == [
        "it is not removable; --force if you are sure",
        "it has 2000 GB, over 256; --force if you are sure",
    ]
    assert machine.refusals("8:0", force=True) == []


def test_the_systems_disk_is_found_below_encryption_and_volumes_and_force_does_not_help(machine: FakeMachine) -> None:
    sda = machine.disk("8:0", "pci/usb1/block/sda")
    part = machine.disk("8:3", "pci/usb1/block/sda/sda3", {"partition": "3"})
    crypt, volume = machine.disk("253:1", "virtual/block/dm-1"), machine.disk("253:0", "virtual/block/dm-0")
    for above, below in ((volume, crypt), (crypt, part)):
        (above / "slaves").mkdir()
        (above / "slaves" / below.name).symlink_to(below)
    machine.mounts(ROOT_LINE)
    assert sda.exists()
    assert machine.refusals("8:0", force=True) == ["it is used: the system runs from it (/)"]
    assert machine.refusals("8:3", force=True) == [
        "it is a partition; name the whole disk",
        "it is used: the system runs from it (/)",
    ]


def test_what_is_mounted_or_holds_swap_is_used(machine: FakeMachine, tmp_path: Path) -> None:
    machine.disk("8:16", "pci/usb1/block/sdb")
    machine.disk("8:17", "pci/usb1/block/sdb/sdb1", {"partition": "1"})
    machine.mounts("30 1 8:17 / /media/card rw - vfat /dev/sdb1 rw\n")
    assert machine.refusals("8:16") == ["it is used: mounted at /media/card"]
    swap = tmp_path / "swapfile"
    swap.touch()
    number = f"{os.major(swap.stat().st_dev)}:{os.minor(swap.stat().st_dev)}"
    machine.disk(number, "pci/usb1/block/sdc")
    (tmp_path / "proc" / "swaps").write_text(f"Filename Type\n{swap} file 1 0 -2\n")
    assert machine.refusals(number) == ["it is used: the system runs from it (swap)"]


def test_a_reader_without_a_card_and_a_disk_of_other_sectors_are_refused(machine: FakeMachine) -> None:
    machine.disk("8:16", "pci/usb1/block/sdb", gigabytes=0)
    machine.disk("8:32", "pci/usb1/block/sdc", {"queue/logical_block_size": "4096"})
    assert machine.refusals("8:16") == ["it has no size: is there a card in it?"]
    assert machine.refusals("8:32") == ["its sectors have 4096 bytes; images are made for 512"]


def test_what_linux_does_not_know_is_an_error_of_one_line(tmp_path: Path) -> None:
    assert not is_block_device(tmp_path / "nothing")
    with pytest.raises(FleetError, match="cannot be looked at"):
        look_at(tmp_path / "nothing", Machine())


def test_who_may_not_write_there_is_told_how(
    machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.disk("8:16", "usb1/block/sdb")
    device = describe(tmp_path / "sdb", os.makedev(8, 16), machine.machine)
    check_file(tmp_path / "card.img", replace=False)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(FleetError, match=f"you may not write into {tmp_path}"):
        check_file(tmp_path / "card.img", replace=False)
    with pytest.raises(FleetError, match=r"sdb: you may not write to it: `sudo chown \$USER .*sdb`"):
        check_device(device, force=False)


def test_a_file_that_somebody_makes_meanwhile_is_left_to_him(
    make_card: Callable[..., Any], load: Load, tmp_path: Path
) -> None:
    class Meanwhile(Progress):
        def phase(self, what: str, total_bytes: int) -> Any:
            (tmp_path / "target.img").write_text("precious")
            return super().phase(what, total_bytes)

    with pytest.raises(FleetError, match="is there already"):
        flash(make_card().path, file_target(tmp_path / "target.img", replace=False), load, Meanwhile(None))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_block_device_is_flashed_and_read_back_past_the_memory(
    make_card: Callable[..., Any], look_into: Callable[[bytes], Any], load: Load, loop: Path
) -> None:
    card = make_card()
    device = look_at(loop, Machine())
    assert (device.size_bytes, device.is_removable, device.used_as) == (16 << 20, False, ())
    flash(card.path, device_target(device, Machine()), load, Progress(None))
    content = loop.read_bytes()
    size_bytes = card.path.stat().st_size
    assert content[: card.boot_start] == card.path.read_bytes()[: card.boot_start]
    assert content[card.boot_end : size_bytes] == card.path.read_bytes()[card.boot_end :]
    assert look_into(content[card.boot_start : card.boot_end]).complaints() == ""


def test_a_mounted_device_cannot_be_opened_and_is_told_to_be_used(
    make_card: Callable[..., Any], load: Load, loop: Path, tmp_path: Path
) -> None:
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", loop, place], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    before = loop.read_bytes()
    try:
        device = look_at(loop, Machine())
        assert device.used_as == (f"mounted at {place}",)
        with pytest.raises(FleetError, match="it is mounted, or another program holds it"):
            flash(make_card().path, device_target(device, Machine()), load, Progress(None))
        assert loop.read_bytes() == before
    finally:
        subprocess.run(["umount", place], check=True)


def test_what_is_written_is_what_was_looked_at(
    make_card: Callable[..., Any], load: Load, loop: Path, tmp_path: Path
) -> None:
    """A card is pulled while its name is asked for, and the next disk that comes has its name."""
    name = tmp_path / "card"
    name.symlink_to(loop)
    seen = look_at(name, Machine())
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(seen.size_bytes))
    name.unlink()
    name.symlink_to(plain)
    others = [replace(seen, path=loop, **changed) for changed in ({"number": 1}, {"sequence": "-"}, {"size_bytes": 1})]
    for device in (seen, *others):
        with pytest.raises(FleetError, match="is no longer the device that was looked at"):
            flash(make_card().path, device_target(device, Machine()), load, Progress(None))
    assert not any(loop.read_bytes())
    assert not any(plain.read_bytes())


def test_what_was_written_is_read_back_from_what_is_open(
    make_card: Callable[..., Any], load: Load, loop: Path, tmp_path: Path
) -> None:
    """Though its name is gone by then."""
    name = tmp_path / "card"
    name.symlink_to(loop)
    target = device_target(look_at(name, Machine()), Machine())

    @contextmanager
    def nameless() -> Iterator[Target]:
        with target as opened:
            name.unlink()
            yield opened

    flash(make_card().path, nameless(), load, Progress(None))
    assert any(loop.read_bytes())


@pytest.mark.parametrize("name", ["/dev/no-such-card", "/dev/disk/by-id/no-such-card", "/dev/null"])
def test_what_is_no_device_among_devices_is_no_file_to_make(name: str) -> None:
    with pytest.raises(FleetError, match="there is no disk of that name"):
        device_at(Path(name), Machine())


def test_a_link_to_a_device_that_has_gone_is_no_file_to_make(tmp_path: Path) -> None:
    (tmp_path / "card").symlink_to("/dev/no-such-card")
    with pytest.raises(FleetError, match="there is no disk of that name"):
        device_at(tmp_path / "card", Machine())
    assert device_at(tmp_path / "card.img", Machine()) is None
