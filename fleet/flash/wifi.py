"""A wireless network, as netplan (cloud-init) and as NetworkManager want it told."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from contract.config import ConfigError

_MAX_SSID_BYTES: Final = 32
_PASSPHRASE: Final = re.compile(r"[ -~]{8,63}")
_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
# IEEE 802.11, annex J.4.
_ROUNDS: Final = 4096
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Wifi:
    """A network with WPA: its name, its 256-bit key in hexadecimal and the country whose rules hold."""

    ssid: str
    key: str = field(repr=False)
    country: str

    def keyfile(self) -> str:
        """A connection of NetworkManager's."""
        # As numbers: any other way of writing it has characters that mean something.
        ssid = "".join(f"{byte};" for byte in self.ssid.encode())
        return (
            "[connection]\nid=headwater-wifi\ntype=wifi\n\n"
            f"[wifi]\nmode=infrastructure\nssid={ssid}\n\n"
            f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={self.key}\n\n"
            "[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
        )


def wifi(ssid: str, passphrase: str, country: str) -> Wifi:
    """The network; of its passphrase only the key that is made of it goes on a card. Raises ConfigError."""
    if not 0 < len(ssid.encode()) <= _MAX_SSID_BYTES or not ssid.isprintable():
        raise ConfigError(f"--wifi: found {ssid!r}, allowed: the network's name, of 1 to {_MAX_SSID_BYTES} bytes")
    if not _COUNTRY.fullmatch(country):
        raise ConfigError(f"--wifi-country: found {country!r}, allowed: two letters, such as DE")
    if _KEY.fullmatch(passphrase):
        return Wifi(ssid, passphrase.lower(), country)
    if not _PASSPHRASE.fullmatch(passphrase):
        raise ConfigError("the Wi-Fi password has 8 to 63 ASCII characters, or is the key of 64 hexadecimal digits")
    key = hashlib.pbkdf2_hmac("sha1", passphrase.encode(), ssid.encode(), _ROUNDS, _KEY_BYTES)
    return Wifi(ssid, key.hex(), country)
