"""The primary host's word (Sparkplug's STATE) on whether it is there: until it is, a node keeps what it has. No I/O."""

from __future__ import annotations

from contract.hoststate import HostState, state_topic


class PrimaryHost:
    """The host of an id. It is online from an online STATE on, and only words as new as the last one count."""

    def __init__(self, host_id: str) -> None:
        self.id = host_id
        self.topic = state_topic(host_id)  # where it tells its state, retained
        self.online = False
        self._told_at_ms = 0

    def await_anew(self) -> None:
        """A new connection: whether the host is there is what it says on this one."""
        self.online = False

    def take(self, payload: bytes) -> None:
        """Takes in a STATE; one older than the last is ignored. Raises CodecError for what is none."""
        state = HostState.from_payload(payload)
        if state.timestamp >= self._told_at_ms:
            self.online, self._told_at_ms = state.online, state.timestamp
