"""A host's own word on whether it is there: `spBv1.0/STATE/{host_id}`, retained (Sparkplug 3.0, 6.4.26).

Nodes that wait for a primary host keep what they have until it is online, and believe only words as new as the last.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from contract.errors import CodecError
from contract.topics import NAMESPACE, check_identifier

_MAX_STATE_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class HostState:
    """Whether a host is online; `timestamp` is in UTC ms, that of a birth is its will's, too."""

    online: bool
    timestamp: int

    def to_payload(self) -> bytes:
        """The state as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_payload(cls, payload: bytes) -> HostState:
        """The state in a payload; raises CodecError for what is none."""
        if len(payload) > _MAX_STATE_BYTES:
            raise CodecError(f"a STATE of {len(payload)} bytes: allowed are {_MAX_STATE_BYTES}")
        try:
            state = json.loads(payload)
        except (ValueError, RecursionError) as exc:
            raise CodecError(f"a STATE that is no JSON: {exc}") from exc
        match state:
            case {"online": bool(online), "timestamp": int(timestamp)} if not isinstance(timestamp, bool):
                return cls(online, timestamp)
            case _:
                raise CodecError(
                    f"a STATE of {str(state)[:80]!r}: needed are online (true or false) and timestamp (ms)"
                )


def state_topic(host_id: str) -> str:
    """Where a host tells its state; raises TopicError where none may be called so."""
    check_identifier(host_id, "host")
    return f"{NAMESPACE}/STATE/{host_id}"
