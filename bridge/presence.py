"""What the bridge says of itself as a Sparkplug host: its STATE. Pure: the clock (UTC ms) is the caller's."""

from __future__ import annotations

import logging

from contract.errors import CodecError
from contract.hoststate import HostState, state_topic

logger = logging.getLogger(__name__)


class Presence:
    """The STATE of one host id.

    Will and birth of a connection have one time, and no word is older than one before it, even when our clock was set
    back: nodes believe only what is as new as the last.
    """

    def __init__(self, host_id: str, offline_after_s: int) -> None:
        self.topic = state_topic(host_id)
        self.offline_after_s = offline_after_s
        self._told_at_ms = 0

    def will(self, now_ms: int) -> HostState:
        """What the broker says when it loses us: for the connection that begins."""
        return HostState(online=False, timestamp=self._stamp(now_ms))

    def birth(self) -> HostState:
        """That we are there, for the connection that was accepted."""
        return HostState(online=True, timestamp=self._told_at_ms)

    def leave(self, now_ms: int) -> HostState:
        """That we are going."""
        return HostState(online=False, timestamp=self._stamp(now_ms))

    def contradict(self, payload: bytes) -> HostState | None:
        """What to answer, being there, to somebody's word about us: that we are, when it says that we are not.

        Of a later word we take the time, or nodes would not believe the answer.
        """
        try:
            state = HostState.from_payload(payload)
        except CodecError as exc:
            logger.debug("MQTT: somebody's word about us: %s", exc)
            return None
        if state.online:
            return None
        logger.warning("MQTT: somebody says on %s that we are offline; saying that we are not", self.topic)
        return HostState(online=True, timestamp=self._stamp(state.timestamp))

    def _stamp(self, at_ms: int) -> int:
        self._told_at_ms = max(self._told_at_ms, at_ms)
        return self._told_at_ms
