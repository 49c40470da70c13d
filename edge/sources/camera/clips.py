"""What clips are to the agent: each frame a reading, named and counted where the camera cannot meddle with it."""

from __future__ import annotations

import base64
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from contract.clips import CLIP, ClipFrame
from contract.datatypes import DataType
from edge.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HOUR_S: Final = 3600.0


@dataclass
class HourOfBytes:
    """What a camera's clips took in the last hour, whichever of its processes made them. Any two are equal."""

    _sent: deque[tuple[float, int]] = field(default_factory=deque, compare=False)

    def take(self, size: int, max_bytes: int, at_s: float) -> bool:
        """Whether so many bytes more may be sent at this time (monotonic), which they then count as."""
        while self._sent and at_s - self._sent[0][0] >= _HOUR_S:
            self._sent.popleft()
        if sum(sent for _, sent in self._sent) + size > max_bytes:
            return False
        self._sent.append((at_s, size))
        return True


class ClipReader:
    """Makes readings of the shots of one process."""

    def __init__(self, hour: HourOfBytes, max_hour_bytes: int, at_ms: Callable[[Mapping[str, Any]], int]) -> None:
        self._hour = hour
        self._max_hour_bytes = max_hour_bytes
        self._at_ms = at_ms
        # Neither a clock that is not set yet nor one that is set back may give two events the same id.
        self._run = secrets.token_hex(4)
        self._event, self._started_ms = 0, 0
        self.left_out = 0
        """Frames that were not sent because the hour's bytes were used up."""

    def reading(self, shot: Mapping[str, Any]) -> Reading | None:
        """The reading of a shot; None where it may not be sent."""
        if self._event != shot["event"]:
            # Once for each event, so that all of its frames say the same.
            self._event, self._started_ms = shot["event"], self._at_ms(shot["started"])
        jpeg = base64.b64decode(shot["jpeg"])
        if not self._hour.take(len(jpeg), self._max_hour_bytes, time.monotonic()):
            self.left_out += 1
            return None
        event_id = f"{self._started_ms}-{self._run}-{self._event}"
        frame = ClipFrame(event_id, shot["kind"], shot["frame_no"], shot["frames"], self._started_ms, jpeg)
        return Reading(CLIP, DataType.BYTES, jpeg, self._at_ms(shot["taken"]), properties=frame.properties())
