"""The primary host's word (Sparkplug's STATE) on whether it is there: until it is, a node keeps what it has. No I/O."""

from __future__ import annotations

import json
from typing import Final

from contract.errors import CodecError
from contract.topics import NAMESPACE, check_identifier

_MAX_STATE_BYTES: Final = 1024


class PrimaryHost:
    """The host of an id. It is online from an online STATE on, and only words as new as the last one count."""

    def __init__(self, host_id: str) -> None:
        check_identifier(host_id, "primary host")
        self.id = host_id
        self.online = False
        self._told_at_ms = 0

    @property
    def topic(self) -> str:
        """Where the host tells its state, retained."""
        return f"{NAMESPACE}/STATE/{self.id}"

    def await_anew(self) -> None:
        """A new connection: whether the host is there is what it says on this one."""
        self.online = False

    def take(self, payload: bytes) -> None:
        """Takes in a STATE; one older than the last is ignored. Raises CodecError for what is none."""
        online, told_at_ms = _parse(payload)
        if told_at_ms >= self._told_at_ms:
            self.online, self._told_at_ms = online, told_at_ms


def _parse(payload: bytes) -> tuple[bool, int]:
    if len(payload) > _MAX_STATE_BYTES:
        raise CodecError(f"a STATE of {len(payload)} bytes: allowed are {_MAX_STATE_BYTES}")
    try:
        state = json.loads(payload)
    except (ValueError, RecursionError) as exc:
        raise CodecError(f"a STATE that is no JSON: {exc}") from exc
    match state:
        case {"online": bool(online), "timestamp": int(told_at_ms)} if not isinstance(told_at_ms, bool):
            return online, told_at_ms
        case _:
            raise CodecError(f"a STATE of {str(state)[:80]!r}: needed are online (true or false) and timestamp (ms)")
