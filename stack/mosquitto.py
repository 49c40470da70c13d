"""Mosquitto, the MQTT broker."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, ClassVar

from stack.install import MOSQUITTO, Part
from stack.process import Command
from stack.server import LOOPBACK, Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PROBE_TIMEOUT_S = 1.0
# CONNECT of MQTT 3.1.1: a clean session, keep-alive 5 s, an empty client id.
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"
_CONNACK_ACCEPTED = b"\x20\x02\x00\x00"


class Mosquitto(Server):
    """A Mosquitto with a persistent store that anybody on this machine may use.

    What it queues for a client is bound by bytes, for past its limit it drops messages that it has acknowledged.
    `message_size_limit_bytes` is the largest payload it takes. `extra` lines end its configuration.
    """

    name: ClassVar[str] = "Mosquitto"

    def __init__(
        self,
        *,
        port: int | None = None,
        directory: Path | None = None,
        message_size_limit_bytes: int = 4 << 20,
        max_queued_bytes: int = 256 << 20,
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__(port=port, directory=directory)
        self._message_size_limit_bytes = message_size_limit_bytes
        self._max_queued_bytes = max_queued_bytes
        self._extra = extra

    @property
    def config_path(self) -> Path:
        """The configuration, written anew at every start."""
        return self.directory / "mosquitto.conf"

    def config(self) -> str:
        """The configuration's text."""
        lines = [
            "per_listener_settings false",
            f"listener {self.port} {LOOPBACK}",
            # Only because it listens on loopback: the compose file has certificates and an ACL.
            "allow_anonymous true",
            # Started by root it would look for an account `mosquitto`, which only the service's package makes.
            *(["user root"] if os.geteuid() == 0 else []),
            "persistence true",
            f"persistence_location {self.data_dir}/",
            "autosave_interval 5",
            "max_inflight_messages 200",
            "max_queued_messages 0",
            f"max_queued_bytes {self._max_queued_bytes}",
            f"message_size_limit {self._message_size_limit_bytes}",
            "max_keepalive 3600",
            "sys_interval 2",
            "connection_messages true",
            "log_dest stdout",
            "log_timestamp_format %Y-%m-%dT%H:%M:%S",
            *self._extra,
        ]
        return "\n".join(lines) + "\n"

    def _parts(self) -> list[Part]:
        return [Part(self.name, MOSQUITTO)]

    def _prepare(self) -> None:
        self.data_dir.mkdir(exist_ok=True)
        self.config_path.write_text(self.config())

    def _command(self) -> Command:
        return Command([str(MOSQUITTO), "-c", str(self.config_path)])

    def _probe(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=_PROBE_TIMEOUT_S) as connection:
                connection.sendall(_CONNECT)
                return connection.recv(4) == _CONNACK_ACCEPTED
        except OSError:
            return False
