"""A node's own log, asked for and told over MQTT, beside Sparkplug: nothing of it is kept in a spool or a table.

The request is an NCMD with the text metric `LOGS`. The answer comes in pieces, JSON at QoS 0 on `log_topic`, to whoever
listens there; it needs no bridge and no disk, which may be just what is wrong.
"""

from __future__ import annotations

from typing import Final, Literal, Self, get_args

from pydantic import Field, ValidationError

from contract.commands import MAX_ID_CHARACTERS
from contract.config import Config
from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Metric, Payload
from contract.topics import check_identifier

LOGS: Final = "Node Control/Logs"
Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
MAX_LINE_CHARACTERS: Final = 1000
MAX_LINES: Final = 500
# Many brokers are told to take little more than 64 KiB at once.
MAX_PIECE_BYTES: Final = 32 * 1024
MAX_PIECES: Final = 64
_LAST_MS: Final = 1 << 53
_YEAR_S: Final = 366 * 86_400.0


class LogRequest(Config):
    """What is asked for: the newest lines that meet all of this."""

    request_id: str = Field(min_length=1, max_length=MAX_ID_CHARACTERS, description="of the sender's choice, repeated")
    level: Level = Field(default="info", description="lines of this level or worse")
    # Not from when on: a node whose clock is wrong is one whose log is asked for.
    within_s: float = Field(default=_YEAR_S, gt=0, le=_YEAR_S, description="told no longer ago than that, in seconds")
    most: int = Field(default=MAX_LINES, ge=1, le=MAX_LINES, description="how many at most")
    run: str | None = Field(default=None, max_length=40, description="the run of the agent that `after` belongs to")
    after: int = Field(default=0, ge=0, description="the last line that is known already, if this is still that run")

    def to_payload(self, now_ms: int) -> Payload:
        """The request as a command."""
        return Payload(now_ms, (Metric(LOGS, DataType.STRING, self.model_dump_json(), now_ms),))

    @classmethod
    def from_metric(cls, metric: Metric) -> Self:
        """The request in a metric called `LOGS`; raises CodecError for what is none."""
        try:
            return cls.model_validate_json(metric.value if isinstance(metric.value, str) else "")
        except ValidationError as exc:
            raise CodecError(f"{LOGS}: is no request: {_first(exc)}") from exc


class LogLine(Config):
    """A line of the log."""

    number: int = Field(ge=1, description="counts the lines of a run of the agent")
    at_ms: int = Field(ge=0, le=_LAST_MS, description="when it was told (UTC ms, the node's clock)")
    level: str = Field(max_length=20)
    logger: str = Field(max_length=200, description="the part of the agent that tells it")
    text: str = Field(max_length=MAX_LINE_CHARACTERS)


class LogPiece(Config):
    """A piece of an answer."""

    request_id: str = Field(max_length=MAX_ID_CHARACTERS, description="of the request")
    run: str = Field(max_length=40, description="this run of the agent")
    piece: int = Field(default=1, ge=1, le=MAX_PIECES, description="of `pieces`")
    pieces: int = Field(default=1, ge=1, le=MAX_PIECES)
    lines: tuple[LogLine, ...] = Field(default=(), max_length=MAX_LINES, description="the oldest first")
    left_out: int = Field(
        default=0, ge=0, description="lines that were asked for, too, and that the answer has no room for"
    )
    forgotten: int = Field(default=0, ge=0, description="lines of this run that the node keeps no longer")
    reason: str | None = Field(default=None, max_length=1000, description="why there is no answer")

    def to_json(self) -> bytes:
        """The piece's bytes."""
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Self:
        """The piece in a payload; raises CodecError for what is none."""
        if len(payload) > 2 * MAX_PIECE_BYTES:
            raise CodecError(f"a piece of a log of {len(payload)} bytes: allowed are {2 * MAX_PIECE_BYTES}")
        try:
            return cls.model_validate_json(payload)
        except ValidationError as exc:
            raise CodecError(f"a piece of a log that is none: {_first(exc)}") from exc


def log_topic(group: str, node: str) -> str:
    """Where a node tells its log; raises TopicError where it cannot be called so."""
    check_identifier(group, "group")
    check_identifier(node, "node")
    return f"headwater/{group}/log/{node}"


def _first(fault: ValidationError) -> str:
    first = fault.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
