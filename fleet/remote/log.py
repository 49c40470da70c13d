"""A node's own log, asked for over the broker."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.commands import COMMAND_ID
from contract.datatypes import DataType
from contract.errors import CodecError
from contract.logs import LogPiece, LogRequest, log_topic
from contract.sparkplug import Metric, Payload, encode
from contract.topics import MessageType, Topic
from fleet.errors import FleetError
from fleet.remote.command import answer_in
from fleet.view.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contract.logs import Level, LogLine
    from fleet.session import Session

_MS_PER_S: Final = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """The lines of an answer; `run` is the agent's, `left_out` and `forgotten` count what the answer does not have."""

    run: str
    lines: Sequence[LogLine]
    left_out: int = 0
    forgotten: int = 0


class NoAnswerError(FleetError):
    """The node did not answer in time; it may the next time."""


class NodeLog:
    """Asks a node for its log, once or again and again."""

    def __init__(self, session: Session, group: str, node: str) -> None:
        self._session = session
        self._topic = log_topic(group, node)
        self._command_topic = str(Topic(group, MessageType.NCMD, node))
        # An agent that knows of no logs answers as to any command that it does not know.
        self._data_topic = str(Topic(group, MessageType.NDATA, node))
        session.subscribe([self._topic, self._data_topic])

    def ask(self, level: Level, within_s: float, known: Answer | None, wait_s: float) -> Answer:
        """The lines of a level or worse that are no older, or those after the `known` ones; raises FleetError."""
        after = {} if known is None or not known.lines else {"run": known.run, "after": known.lines[-1].number}
        request = LogRequest(request_id=uuid.uuid4().hex[:12], level=level, within_s=within_s, **after)
        now_ms = int(time.time() * _MS_PER_S)
        payload = request.to_payload(now_ms)
        sent_id = Metric(COMMAND_ID, DataType.STRING, request.request_id, now_ms)
        wanted = Payload(now_ms, (*payload.metrics, sent_id))
        deadline_s = time.monotonic() + wait_s
        self._session.command(self._command_topic, encode(wanted), wait_s)
        pieces: dict[int, LogPiece] = {}
        for piece in self._pieces(request.request_id, deadline_s):
            if piece.reason is not None:
                raise FleetError(f"the node tells nothing: {plain(piece.reason)}")
            pieces[piece.piece] = piece
            if len(pieces) >= piece.pieces:
                lines = tuple(line for number in sorted(pieces) for line in pieces[number].lines)
                return Answer(piece.run, lines, piece.left_out, piece.forgotten)
        raise NoAnswerError(
            f"no answer within {wait_s:g} s: only an agent of Headwater's tells its log, no other Sparkplug node does; "
            f"and the broker has to let it write on {self._topic}"
        )

    def _pieces(self, request_id: str, deadline_s: float) -> Iterator[LogPiece]:
        while (message := self._session.next(deadline_s)) is not None:
            if message.topic == self._topic:
                try:
                    piece = LogPiece.from_json(message.payload)
                except CodecError:
                    continue
                if piece.request_id == request_id:
                    yield piece
            elif (answer := answer_in(message, request_id)) is not None:
                raise FleetError(f"the node's agent is too old for this: {plain(answer.reason)}")
