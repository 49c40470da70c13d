"""A card that is flashed holds the image and what makes it a node's, and nothing between that and not booting."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import FleetError
from fleet.flash import FirstBoot, Load, flash, wifi
from fleet.flash.progress import Progress
from fleet.flash.target import file_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUIET = Progress(None)
CMDLINE = b"console=serial0,115200 root=PARTUUID=0badf00d-02 rootwait\n"
CLOUD_INIT = {"user-data": b"#cloud-config\n", "meta-data": b"instance-id: before\n", "network-config": b"version: 2\n"}
NETWORK = wifi("Café 'näher' \"$(x)\"", "it's $secret", "DE")

names = st.from_regex(r"[a-z]{1,12}(\.[a-z0-9]{1,5})?", fullmatch=True).filter(
    lambda name: name not in {*CLOUD_INIT, "cmdline.txt", "headwater", "overlays"}
)


@dataclass(frozen=True)
class Example:
    """An image, and what is asked for."""

    layout: dict[str, Any]
    more: dict[str, bytes]
    has_cloud_init: bool
    has_cmdline: bool
    has_wifi: bool

    @property
    def files(self) -> dict[str, bytes]:
        seed = CLOUD_INIT if self.has_cloud_init else {}
        return self.more | seed | ({"cmdline.txt": CMDLINE} if self.has_cmdline or not self.has_cloud_init else {})


examples = st.builds(
    Example,
    st.fixed_dictionaries(
        {
            "bits": st.sampled_from([16, 16, 32]),
            "gpt": st.booleans(),
            "first_sector": st.integers(34, 3000),
            "root_bytes": st.integers(1, 600).map(lambda sectors: sectors * 512),
            "seed": st.integers(0, 2**32),
        }
    ),
    st.dictionaries(names, st.binary(max_size=3000), max_size=6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(examples)
@settings(max_examples=12, deadline=None)
def test_a_card_is_the_image_but_for_what_was_put_there(
    make_card: Callable[..., Any],
    look_into: Callable[[bytes], Any],
    load: Load,
    tmp_path_factory: pytest.TempPathFactory,
    example: Example,
) -> None:
    card = make_card(files=example.files, **example.layout)
    target = tmp_path_factory.getbasetemp() / "flashed.img"
    ours = replace(load, wifi=NETWORK if example.has_wifi else None)
    done = flash(card.path, file_target(target, replace=True), ours, QUIET)

    before, after = card.path.read_bytes(), target.read_bytes()
    assert after[: card.boot_start] == before[: card.boot_start]
    assert after[card.boot_end :] == before[card.boot_end :]
    written = {path for path in done.prepared.paths if not path.startswith("headwater/")}
    kept = look_into(card.boot()).kept(written)
    volume = look_into(after[card.boot_start : card.boot_end])
    assert volume.complaints() == ""
    assert [number for number, content in kept.items() if volume.cluster(number) != content] == []
    untouched = {name: content for name, content in example.files.items() if name not in written}
    assert {name: volume.read(name) for name in untouched} == untouched
    assert volume.names() >= {*done.prepared.paths, *example.files, "overlays/"}
    assert volume.read("headwater/headwater-agent.deb") == load.bundle.read_bytes()
    assert volume.read("headwater/enrol.json") == load.files["enrol.json"]
    if example.has_cloud_init:
        assert done.prepared.first_boot is FirstBoot.CLOUD_INIT
        check_cloud_init(volume, has_wifi=example.has_wifi)
    else:
        assert done.prepared.first_boot is FirstBoot.FIRSTRUN
        check_firstrun(volume, has_wifi=example.has_wifi)


def check_cloud_init(volume: Any, *, has_wifi: bool) -> None:
    seed = {name: yaml.safe_load(volume.read(name)) for name in CLOUD_INIT}
    assert volume.read("user-data").startswith(b"#cloud-config\n")
    assert seed["user-data"]["hostname"] == "pi-007"
    assert seed["meta-data"]["instance-id"].startswith("headwater-pi-007-")
    [[_, _, script]] = seed["user-data"]["runcmd"]
    check_shell(script.encode())
    check_shell(volume.read("headwater/setup.sh"))
    network = seed["network-config"]["network"]
    assert ("wifis" in network) == has_wifi
    if has_wifi:
        assert network["wifis"]["wlan0"]["access-points"] == {NETWORK.ssid: {"password": NETWORK.key}}


def check_firstrun(volume: Any, *, has_wifi: bool) -> None:
    for name in ("firstrun.sh", "headwater/setup.sh"):
        check_shell(volume.read(name))
    cmdline = volume.read("cmdline.txt")
    assert cmdline.startswith(CMDLINE.rstrip())
    assert cmdline.count(b"systemd.run=/boot/firmware/firstrun.sh ") == 1
    assert cmdline.endswith(b"\n")
    assert cmdline.count(b"\n") == 1
    assert (b"regdom=DE" in cmdline) == has_wifi
    if has_wifi:
        assert f"psk={NETWORK.key}".encode() in volume.read("headwater/wifi.nmconnection")


def check_shell(script: bytes) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, check=False)
    assert not done.returncode, done.stderr


class Card:
    """A card in memory that keeps what was written and when it was waited for; at first it holds another system."""

    def __init__(self, before: bytes) -> None:
        self.before = before
        self.content = bytearray(before)
        self.room_bytes = len(before)
        self.log: list[tuple[int, bytes] | None] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """A card is nothing to close."""

    def write(self, offset: int, data: bytes) -> None:
        self.content[offset : offset + len(data)] = data
        self.log.append((offset, data))

    def sync(self) -> None:
        self.log.append(None)

    def read_back(self, size_bytes: int) -> Any:
        yield memoryview(self.content)[:size_bytes]

    def after_a_cut(self, at: int, luck: random.Random) -> bytearray:
        """What it holds: all that was waited for, and of the rest whichever sectors made it."""
        content = bytearray(self.before)
        synced = max((number for number in range(at) if self.log[number] is None), default=0)
        for number, entry in enumerate(self.log[:at]):
            if entry is None:
                continue
            offset, data = entry
            for start in range(0, len(data), 512 if number > synced else len(data)):
                piece = data[start : start + (512 if number > synced else len(data))]
                if number <= synced or luck.random() < 0.5:
                    content[offset + start : offset + start + len(piece)] = piece
        return content


@pytest.mark.parametrize("gpt", [False, True])
def test_a_cut_at_any_write_leaves_what_was_there_or_nothing_that_boots(
    make_card: Callable[..., Any], load: Load, monkeypatch: pytest.MonkeyPatch, *, gpt: bool
) -> None:
    for module in ("image", "writing"):
        monkeypatch.setattr(f"fleet.flash.{module}.CHUNK_BYTES", 128 << 10)
    monkeypatch.setattr("fleet.flash.writing._SYNC_BYTES", 1 << 20)
    image = make_card(gpt=gpt)
    size_bytes = image.path.stat().st_size
    another = bytes(510) + b"\x55\xaa" + random.Random(3).randbytes(size_bytes - 512)
    card = Card(another)
    flash(image.path, card, load, QUIET)
    assert len(card.log) > 30
    whole, luck, dead = bytes(card.content), random.Random(5), 0
    for at in range(len(card.log) + 1):
        content = card.after_a_cut(at, luck)
        if content[510:512] == b"\x55\xaa":
            assert content in (another, whole), f"a cut at write {at} of {len(card.log)} leaves something half-written"
        else:
            dead += 1
    assert dead > 30


def test_nothing_boots_where_what_is_read_back_is_not_what_was_written(
    make_card: Callable[..., Any], load: Load
) -> None:
    image = make_card()

    class Worn(Card):
        def write(self, offset: int, data: bytes) -> None:
            super().write(offset, data)
            if offset <= 2_000_000 < offset + len(data):
                self.content[2_000_000] ^= 1

    card = Worn(bytes(image.path.stat().st_size))
    with pytest.raises(FleetError, match="broken"):
        flash(image.path, card, load, QUIET)
    assert not any(card.content[:512])


@pytest.mark.parametrize("packer", ["xz -0", "xz -0 -T2 --block-size=1MiB", "zstd -1 -q", "xz concatenated"])
def test_a_packed_image_is_unpacked_on_its_way(
    make_card: Callable[..., Any], load: Load, tmp_path: Path, packer: str
) -> None:
    card = make_card()
    plain = card.path.read_bytes()
    if packer == "xz concatenated":
        half = len(plain) // 2
        packed = b"".join(pack(["xz", "-0"], part) for part in (plain[:half], plain[half:]))
    else:
        packed = pack(packer.split(), plain)
    path = tmp_path / "packed.img"
    path.write_bytes(packed)
    target = tmp_path / "target.img"
    flash(path, file_target(target, replace=False), load, QUIET)
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_bytes()[card.boot_end :] == plain[card.boot_end :]


def pack(command: list[str], content: bytes) -> bytes:
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def test_each_flash_is_a_new_instance_also_where_imager_named_one(
    make_card: Callable[..., Any], look_into: Callable[[bytes], Any], load: Load, tmp_path: Path
) -> None:
    named = b"root=/dev/x ds=nocloud;i=rpi-imager-1 quiet\n"
    card = make_card(files=CLOUD_INIT | {"cmdline.txt": named})
    instances = set()
    for _ in range(2):
        target = tmp_path / "target.img"
        flash(card.path, file_target(target, replace=True), load, QUIET)
        volume = look_into(target.read_bytes()[card.boot_start : card.boot_end])
        instance = yaml.safe_load(volume.read("meta-data"))["instance-id"]
        assert volume.read("cmdline.txt") == f"root=/dev/x ds=nocloud;i={instance} quiet\n".encode()
        instances.add(instance)
    assert len(instances) == 2


def test_an_image_that_was_flashed_can_be_flashed_again(
    make_card: Callable[..., Any], look_into: Callable[[bytes], Any], load: Load, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.img", tmp_path / "second.img"
    card = make_card()
    flash(card.path, file_target(first, replace=False), load, QUIET)
    flash(first, file_target(second, replace=False), replace(load, node="pi-008"), QUIET)
    volume = look_into(second.read_bytes()[card.boot_start : card.boot_end])
    assert volume.complaints() == ""
    assert volume.read("cmdline.txt").count(b"systemd.run=") == 1
    assert b"echo pi-008 >" in volume.read("firstrun.sh")


def test_a_file_that_fails_or_is_stopped_leaves_nothing(
    make_card: Callable[..., Any], load: Load, tmp_path: Path
) -> None:
    card = make_card()

    class Stopped(Progress):
        def phase(self, what: str, total_bytes: int) -> Any:  # noqa: ARG002 - as Progress has it
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flash(card.path, file_target(tmp_path / "target.img", replace=False), load, Stopped(None))
    with pytest.raises(FleetError, match="SHA-256"):
        flash(card.path, file_target(tmp_path / "target.img", replace=False), load, QUIET, "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_has_no_room_is_told_before_anything_is_put_there(
    make_card: Callable[..., Any], load: Load, tmp_path: Path
) -> None:
    large = tmp_path / "large.deb"
    large.write_bytes(bytes(8 << 20))
    with pytest.raises(FleetError, match=r"has 4 MiB left, and 10 MiB are needed"):
        flash(make_card().path, Card(bytes(16 << 20)), replace(load, bundle=large), QUIET)
