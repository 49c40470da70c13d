"""What makes a card's system set itself up at its first boot: cloud-init's seed, or `firstrun.sh` where there is none.

Whichever it is ends in `setup.sh` in the card's own folder, which runs the bundle's first-boot script, and wipes from
the card what nobody needs a second time.
"""

from __future__ import annotations

import re
import uuid
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import yaml

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from fleet.flash.wifi import Wifi

FOLDER: Final = "headwater"
CMDLINE: Final = "cmdline.txt"
USER_DATA: Final = "user-data"
META_DATA: Final = "meta-data"
NETWORK_CONFIG: Final = "network-config"
FIRSTRUN: Final = "firstrun.sh"
WIFI_FILE: Final = "wifi.nmconnection"
_MAX_HOST_NAME: Final = 63
# Where Raspberry Pi OS has mounted its boot partition since Bookworm; before that, and elsewhere.
_BOOT_FOLDERS: Final = ("/boot/firmware", "/boot", "/boot/efi")
_RUN_ONCE: Final = (
    f"systemd.run=/boot/firmware/{FIRSTRUN} systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
)
# Raspberry Pi OS asks on a screen at its first boot who shall log in, and multi-user.target waits for the answer: what
# comes after that, as cloud-init's runcmd may, would wait for a keyboard that nobody has. Nobody is to log in.
_ASK_NOBODY: Final = "systemctl --no-block mask --now userconfig.service || :"
# An instance that is named here, as Raspberry Pi Imager does, goes before the one of meta-data.
_NAMED_SEED: Final = re.compile(r"(ds=nocloud\S*?;(?:i|instance-id)=)[^;\s]+")


class FirstBoot(Enum):
    """How an image's system is told what to do at its first boot."""

    CLOUD_INIT = "cloud-init"
    FIRSTRUN = "firstrun.sh"

    @classmethod
    def of(cls, names: AbstractSet[str]) -> FirstBoot:
        """That of an image with such files on its boot partition; raises FleetError where there is none."""
        if {USER_DATA, META_DATA} <= names:
            return cls.CLOUD_INIT
        if CMDLINE in names:
            return cls.FIRSTRUN
        raise FleetError(
            "the image's boot partition has neither cloud-init's user-data and meta-data nor a cmdline.txt: "
            "is it Raspberry Pi OS?"
        )


def host_name(node: str) -> str:
    """A host name that is as near to a node's as host names allow."""
    return re.sub(r"[^a-z0-9]+", "-", node.lower())[:_MAX_HOST_NAME].strip("-") or "headwater"


def seed(first_boot: FirstBoot, node: str, wifi: Wifi | None, cmdline: str) -> dict[str, bytes]:
    """The files for the root of the boot partition, by name; `cmdline` is what the kernel is told now, in Latin-1."""
    instance = f"headwater-{host_name(node)}-{uuid.uuid4().hex}"
    country = [f"cfg80211.ieee80211_regdom={wifi.country}"] if wifi else []
    if first_boot is FirstBoot.FIRSTRUN:
        return {
            CMDLINE: _one_line(_without_run(cmdline), *country, _RUN_ONCE),
            FIRSTRUN: _firstrun(node, wifi).encode(),
        }
    files = {
        USER_DATA: b"#cloud-config\n" + _yaml(_user_data(node, wifi)),
        META_DATA: _yaml({"instance-id": instance, "local-hostname": host_name(node)}),
        NETWORK_CONFIG: _yaml(_network(wifi)),
    }
    changed = _NAMED_SEED.sub(rf"\g<1>{instance}", cmdline)
    if cmdline.strip() and (country or changed != cmdline):
        files[CMDLINE] = _one_line(changed, *country)
    return files


def own_files(first_boot: FirstBoot, wifi: Wifi | None) -> dict[str, bytes]:
    """The files for the card's own folder, beside the bundle and what is told the agent."""
    files = {"setup.sh": _SETUP.encode(), "wipe.sh": _WIPE.encode()}
    if wifi and first_boot is FirstBoot.FIRSTRUN:
        files[WIFI_FILE] = wifi.keyfile().encode()
    return files


def _yaml(document: dict[str, Any]) -> bytes:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def _one_line(*words: str) -> bytes:
    # The firmware reads the first line alone.
    return " ".join(" ".join(words).split()).encode("latin-1") + b"\n"


def _without_run(cmdline: str) -> str:
    return re.sub(r"\bsystemd\.(run|run_success_action|unit)=\S*", "", cmdline)


def _user_data(node: str, wifi: Wifi | None) -> dict[str, Any]:
    folders = " ".join(_BOOT_FOLDERS)
    script = (
        f'for at in {folders}; do if [ -f "$at/{FOLDER}/setup.sh" ]; then exec sh "$at/{FOLDER}/setup.sh"; fi; done'
    )
    return {
        "hostname": host_name(node),
        "preserve_hostname": False,
        "manage_etc_hosts": True,
        # Raspberry Pi OS has its radio blocked until somebody has named a country.
        "bootcmd": [["sh", "-c", _ASK_NOBODY], *([["sh", "-c", "rfkill unblock wifi || :"]] if wifi else [])],
        "runcmd": [["sh", "-c", f"{script}; exit 1"]],
    }


def _network(wifi: Wifi | None) -> dict[str, Any]:
    """Addresses by DHCP; the Wi-Fi comes last, for `wipe.sh` cuts it off."""
    # A boot waits two minutes for what is not optional, and as long where all is: so there is always one that is not.
    wire = {"dhcp4": True, "optional": True} if wifi else {"dhcp4": True}
    network: dict[str, Any] = {"version": 2, "ethernets": {"eth0": wire}}
    if wifi:
        network["wifis"] = {
            "wlan0": {
                "dhcp4": True,
                "regulatory-domain": wifi.country,
                "access-points": {wifi.ssid: {"password": wifi.key}},
            }
        }
    return {"network": network}


_SETUP: Final = """#!/bin/sh
# Written by `fleet flash`: sets this device up at its first boot, and then wipes the secrets from the card.
folder=$(cd "$(dirname "$0")" && pwd) || exit 1
if sh "$folder/first-boot.sh" "$@" "$folder" >>"$folder/first-boot.log" 2>&1; then
    sh "$folder/wipe.sh"
else
    echo "headwater: the first boot failed, see $folder/first-boot.log" >&2
    sync
    exit 1
fi
"""

# On its own, for who goes on with a first boot that was cut off; it may be run again and again.
_WIPE: Final = f"""#!/bin/sh
# Written by `fleet flash`: wipes from the card what nobody needs a second time.
folder=$(cd "$(dirname "$0")" && pwd) || exit 1
boot=$(dirname "$folder")
for file in "$folder/enrol.json" "$folder"/*.pem "$folder/{WIFI_FILE}"; do
    if [ -f "$file" ]; then shred -n 1 --remove=unlink "$file" 2>/dev/null || rm -f "$file"; fi
done
# The rest of a seed is looked at again at every boot, its network only at the first.
if [ -f "$boot/{NETWORK_CONFIG}" ]; then sed -i '/^  wifis:/,$d' "$boot/{NETWORK_CONFIG}"; fi
rm -rf "$folder"/*.deb "$folder"/*.tar.gz "$folder/models"
sync
"""


def _firstrun(node: str, wifi: Wifi | None) -> str:
    joined = f"""
connections=/etc/NetworkManager/system-connections
install -d -m 700 "$connections"
install -m 600 "$boot/{FOLDER}/{WIFI_FILE}" "$connections/headwater-wifi.nmconnection"
raspi-config nonint do_wifi_country {wifi.country if wifi else ""}
rfkill unblock wifi
"""
    return f"""#!/bin/sh
# Written by `fleet flash`: run once by systemd, before anything else of the system; it restarts after that.
boot=$(cd "$(dirname "$0")" && pwd)
{_ASK_NOBODY}
echo {host_name(node)} >/etc/hostname
sed -i 's/^127\\.0\\.1\\.1.*/127.0.1.1 {host_name(node)}/' /etc/hosts
{joined if wifi else ""}sh "$boot/{FOLDER}/setup.sh" --no-start
# Also where that failed: first-boot.log on the card says why, and a system that restarts for ever would not.
sed -i -E 's/ ?systemd\\.(run|run_success_action|unit)=[^ ]*//g' "$boot/{CMDLINE}"
rm -f "$boot/{FIRSTRUN}"
sync
exit 0
"""
