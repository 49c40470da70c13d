"""What a card's scripts do at the first boot, run here with folders of their own in place of the system's."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from fleet.flash import FirstBoot, wifi
from fleet.flash.seed import host_name, own_files, seed

if TYPE_CHECKING:
    from pathlib import Path

CMDLINE = "console=tty1 root=PARTUUID=0badf00d-02 rootwait"
SECRET = b"only this node knows"
NETWORK = wifi("Hall 3", "correct horse", "DE")


class Booted:
    """A card's boot partition, and the system that it belongs to."""

    def __init__(self, folder: Path, first_boot: FirstBoot, *, succeeds: bool = True) -> None:
        self.boot, self.etc, self._tools = folder / "boot", folder / "etc", folder / "bin"
        ours = self.boot / "headwater"
        for path in (ours / "models" / "m", self.etc, self._tools):
            path.mkdir(parents=True)
        (self.etc / "hostname").write_text("raspberrypi\n")
        (self.etc / "hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n")
        for tool in ("raspi-config", "rfkill"):
            (self._tools / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >>{folder}/told\n')
            (self._tools / tool).chmod(0o755)
        # As where there is no such unit.
        (self._tools / "systemctl").write_text(f'#!/bin/sh\necho "$*" >{folder}/systemd\nexit 1\n')
        (self._tools / "systemctl").chmod(0o755)
        files = dict.fromkeys(("enrol.json", "key.pem", "cert.pem", "agent.tar.gz", "models/m/manifest.json"), SECRET)
        files["first-boot.sh"] = f'echo installs "$*"\nexit {0 if succeeds else 1}\n'.encode()
        for name, content in (files | own_files(first_boot, NETWORK)).items():
            (ours / name).write_bytes(content)
        for name, content in seed(first_boot, "pi-007", NETWORK, CMDLINE).items():
            (self.boot / name).write_bytes(content)

    def run(self, script: str) -> int:
        """Runs it with /etc and /boot/firmware in this folder."""
        there = script.replace("/etc/", f"{self.etc}/").replace("/boot/firmware", str(self.boot))
        environment = os.environ | {"PATH": f"{self._tools}:{os.environ['PATH']}"}
        path = self.boot / "run.sh"
        path.write_text(there)
        code = subprocess.run(["sh", path], env=environment, check=False).returncode
        path.unlink()
        return code

    def left(self) -> set[str]:
        return {path.relative_to(self.boot).as_posix() for path in self.boot.rglob("*") if path.is_file()}


def test_firstrun_sets_the_device_up_once_and_wipes_what_is_secret(tmp_path: Path) -> None:
    booted = Booted(tmp_path, FirstBoot.FIRSTRUN)
    assert booted.run((booted.boot / "firstrun.sh").read_text()) == 0
    assert (booted.etc / "hostname").read_text() == "pi-007\n"
    assert "127.0.1.1 pi-007\n" in (booted.etc / "hosts").read_text()
    assert (tmp_path / "told").read_text() == "raspi-config nonint do_wifi_country DE\nrfkill unblock wifi\n"
    connection = booted.etc / "NetworkManager/system-connections/headwater-wifi.nmconnection"
    assert connection.stat().st_mode & 0o777 == 0o600
    assert f"psk={NETWORK.key}" in connection.read_text()
    ours = {"first-boot.sh", "first-boot.log", "setup.sh", "wipe.sh"}
    assert booted.left() == {"cmdline.txt", *(f"headwater/{name}" for name in ours)}
    assert (booted.boot / "cmdline.txt").read_text() == f"{CMDLINE} cfg80211.ieee80211_regdom=DE\n"
    assert (booted.boot / "headwater/first-boot.log").read_text() == f"installs --no-start {booted.boot}/headwater\n"


@pytest.mark.parametrize("first_boot", FirstBoot)
def test_a_first_boot_waits_for_nobody_to_say_who_shall_log_in(tmp_path: Path, first_boot: FirstBoot) -> None:
    booted = Booted(tmp_path, first_boot)
    script = (booted.boot / "firstrun.sh").read_text() if first_boot is FirstBoot.FIRSTRUN else ""
    if first_boot is FirstBoot.CLOUD_INIT:
        # Its first stage: runcmd is the last one, and may be what would wait.
        script = "\n".join(line for *_, line in yaml.safe_load((booted.boot / "user-data").read_text())["bootcmd"])
    assert booted.run(script) == 0
    assert (tmp_path / "systemd").read_text() == "--no-block mask --now userconfig.service\n"
    assert "rfkill unblock wifi\n" in (tmp_path / "told").read_text()


def test_cloud_init_runs_it_and_the_networks_key_goes_from_the_card(tmp_path: Path) -> None:
    booted = Booted(tmp_path, FirstBoot.CLOUD_INIT)
    [[_, _, script]] = yaml.safe_load((booted.boot / "user-data").read_text())["runcmd"]
    assert NETWORK.key in (booted.boot / "network-config").read_text()
    assert booted.run(script) == 0
    network = yaml.safe_load((booted.boot / "network-config").read_text())
    assert network == {"network": {"version": 2, "ethernets": {"eth0": {"dhcp4": True, "optional": True}}}}
    assert not any(SECRET in (booted.boot / name).read_bytes() for name in booted.left())


def test_a_first_boot_that_failed_says_so_keeps_what_it_needs_and_starts_the_system_all_the_same(
    tmp_path: Path,
) -> None:
    booted = Booted(tmp_path, FirstBoot.FIRSTRUN, succeeds=False)
    assert booted.run((booted.boot / "firstrun.sh").read_text()) == 0
    assert booted.left() >= {"headwater/enrol.json", "headwater/agent.tar.gz", "headwater/first-boot.log"}
    assert "systemd.run" not in (booted.boot / "cmdline.txt").read_text()
    assert "systemd.unit" not in (booted.boot / "cmdline.txt").read_text()


@pytest.mark.parametrize(
    ("node", "name"),
    [("pi-007", "pi-007"), ("Line_3.Press", "line-3-press"), ("a" * 64, "a" * 63), ("...", "headwater")],
)
def test_a_host_name_is_one(node: str, name: str) -> None:
    assert host_name(node) == name
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)


def test_a_networks_key_is_the_one_of_the_standard() -> None:
    # The first test vector of IEEE 802.11, annex J.4.
    assert wifi("IEEE", "password", "DE").key == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
