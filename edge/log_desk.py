"""Requests for the node's log answered over the connection itself: nothing of it goes through the spool.

It moves nothing, so whoever may command the node may ask at any time, with whatever clock; seldom enough not to matter.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from contract.errors import CodecError
from contract.logs import LOGS, MAX_PIECE_BYTES, LogPiece, LogRequest, log_topic
from edge.batch import NODE
from edge.uplink.turns import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from contract.logs import LogLine
    from contract.sparkplug import Payload
    from edge.log_ring import LogRing

logger = logging.getLogger(__name__)

_ANSWERS_PER_S: Final = 1.0
_AT_ONCE: Final = 5
# What a line has beside its text and its logger, in JSON.
_ENVELOPE_BYTES: Final = 100


class LogDesk:
    """Takes commands: answers those for the log by `say` (topic, payload), and hands on all others by `hand_on`.

    Without a `ring` there is no log to tell of. What is asked too often is not answered at all.
    """

    def __init__(
        self,
        ring: LogRing | None,
        of_whom: tuple[str, str],
        say: Callable[[str, bytes], None],
        hand_on: Callable[[str, Payload], None],
    ) -> None:
        self._ring = ring
        self._topic = log_topic(*of_whom)
        self._say = say
        self._hand_on = hand_on
        self._answers = Bucket(_ANSWERS_PER_S, _AT_ONCE)

    def submit(self, device: str, payload: Payload) -> None:
        """Takes a command to a device, or to `NODE`."""
        asked = [metric for metric in payload.metrics if device == NODE and metric.name == LOGS]
        if not asked:
            self._hand_on(device, payload)
            return
        # Of several in one message one is answered.
        try:
            self._answer(LogRequest.from_metric(asked[0]))
        except CodecError as exc:
            logger.debug("%s", exc)
        rest = tuple(metric for metric in payload.metrics if metric.name != LOGS)
        if rest or payload.rejected:
            self._hand_on(device, replace(payload, metrics=rest))

    def _answer(self, request: LogRequest) -> None:
        now_s = time.monotonic()
        if self._answers.wait_s(now_s):
            return
        self._answers.take(1, now_s)
        for piece in _pieces(self._ring, request):
            self._say(self._topic, piece.to_json())


def _pieces(ring: LogRing | None, request: LogRequest) -> Iterator[LogPiece]:
    if ring is None:
        yield LogPiece(request_id=request.request_id, run="", reason="this agent keeps no log")
        return
    kept = ring.newest(request)
    parts = list(_split(kept.lines)) or [[]]
    for number, lines in enumerate(parts, 1):
        yield LogPiece(
            request_id=request.request_id,
            run=ring.run,
            piece=number,
            pieces=len(parts),
            lines=tuple(lines),
            left_out=kept.left_out,
            forgotten=kept.forgotten,
        )


def _split(lines: Sequence[LogLine]) -> Iterator[list[LogLine]]:
    """The lines in parts, each of which makes a piece of about `MAX_PIECE_BYTES` at most."""
    part: list[LogLine] = []
    room = MAX_PIECE_BYTES
    for line in lines:
        size = len(line.model_dump_json().encode()) + _ENVELOPE_BYTES
        if part and size > room:
            yield part
            part, room = [], MAX_PIECE_BYTES
        part.append(line)
        room -= size
    if part:
        yield part
