"""Who gets what: every service's secrets, in a folder of its own."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from compose.init.files import LIFE, Folder, kept_authority, kept_identity, new_password
from compose.init.issued import Issued
from fleet.authority import issue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fleet.authority import Identity

BRIDGES: Final = ("headwater-bridge", "headwater-bridge-2")
NODES: Final = ("edge-1", "edge-2", "edge-3")
OPERATOR: Final = "headwater-operator"
_MQTT_HOSTS: Final = ("mosquitto", "localhost", "127.0.0.1")
_KAFKA_HOSTS: Final = ("kafka", "kafka-1", "kafka-2", "kafka-3", "localhost")
_DATABASE: Final = "host=timescaledb port=5432 dbname=headwater connect_timeout=10"
# A role's password, and who is given it in a connection string.
_LOGINS: Final = {
    "writer": ("stream",),
    "maintainer": ("maintenance",),
    "reader": ("jupyter", "reconcile"),
    "operator": (),
}
# Who is given it bare.
_BARE: Final = {"reader": "grafana", "operator": "psql"}


@dataclass(frozen=True, slots=True)
class Secrets:
    """All folders below one; `mqtt_hosts` are more names and addresses by which devices know the broker."""

    root: Path
    mqtt_hosts: Sequence[str] = ()

    def make(self) -> Iterator[str]:
        """See to everything; what was done, a line each. What is there and good is not touched."""
        devices, core = self._devices(), kept_authority(self._folder("authority"), "core")
        yield from self._mqtt(devices)
        yield from self._kafka(core)
        self._passwords()

    def given(self, name: str) -> bytes:
        """A device's or operator's new certificate: a tar of ca.pem and identity.pem. Its key is kept nowhere here."""
        devices = self._devices()
        identity = issue(devices, name, LIFE)
        self._issued().note(identity)
        files = {"ca.pem": devices.certificate_pem, "identity.pem": identity.pem}
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for file, text in files.items():
                entry = tarfile.TarInfo(file)
                entry.size, entry.mode = len(text), 0o400
                archive.addfile(entry, io.BytesIO(text))
        return content.getvalue()

    def smtp_password(self, password: bytes) -> None:
        """What Grafana shows the mail server; empty for none."""
        self._folder("grafana").write("smtp.password", password)

    def revoke(self, name: str) -> int:
        """Calls back what one was given; how many certificates that were."""
        count = self._issued().revoke(name)
        self._issued().put_list(self._devices(), self._folder("mosquitto"))
        return count

    def _issued(self) -> Issued:
        return Issued(Folder(self.root / "authority/issued"))

    def _devices(self) -> Identity:
        return kept_authority(self._folder("authority"), "devices")

    def _folder(self, name: str) -> Folder:
        return Folder(self.root / name)

    def _mqtt(self, devices: Identity) -> Iterator[str]:
        """The broker, its health check, the bridges and the simulated nodes: of one authority."""
        broker, bridge = self._folder("mosquitto"), self._folder("bridge")
        done = [
            kept_identity(broker, devices, "server.pem", "mosquitto", (*_MQTT_HOSTS, *self.mqtt_hosts)),
            kept_identity(broker, devices, "health.pem", "health"),
            *(kept_identity(bridge, devices, f"{name}.pem", name) for name in BRIDGES),
            *(kept_identity(self._folder(node), devices, "identity.pem", node) for node in NODES),
        ]
        for name in ("mosquitto", *NODES):
            self._folder(name).put("ca.pem", devices.certificate_pem)
        bridge.put("mqtt-ca.pem", devices.certificate_pem)
        self._issued().put_list(devices, broker)
        yield from filter(None, done)

    def _kafka(self, core: Identity) -> Iterator[str]:
        """Brokers and their clients: of another authority, for no device has business there."""
        folders = {"kafka": _KAFKA_HOSTS, "bridge": (), "spark": ()}
        principals = {"kafka": "kafka", "bridge": "bridge", "spark": "stream"}
        for name, hosts in folders.items():
            folder = self._folder(name)
            folder.put("kafka-ca.pem", core.certificate_pem)
            if done := kept_identity(folder, core, "kafka.pem", principals[name], hosts):
                yield done

    def _passwords(self) -> None:
        migrations = self._folder("migrations")
        superuser = self._folder("timescaledb").keep("superuser.password", new_password)
        migrations.put("dsn", _dsn("postgres", superuser))
        for role, users in _LOGINS.items():
            password = migrations.keep(f"{role}.password", new_password)
            for user in users:
                self._folder(user).put("dsn", _dsn(f"headwater_{role}", password))
            if role in _BARE:
                self._folder(_BARE[role]).put(f"{role}.password", password)
        self._folder("grafana").keep("admin.password", new_password)
        # Grafana wants the file; none was given yet.
        self._folder("grafana").keep("smtp.password", bytes)
        self._folder("jupyter").keep("token", new_password)
        key = self._folder("simulators").keep("exchange.key", new_password)
        self._folder("edge-2").put("exchange.key", key)


def _dsn(user: str, password: bytes) -> bytes:
    return f"{_DATABASE} user={user} password={password.decode().strip()}\n".encode()
