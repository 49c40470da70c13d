"""The log of a node on the wire: what was sent is read, and what a stranger sends is looked at."""

from __future__ import annotations

import json

import pytest

from contract.datatypes import DataType
from contract.errors import CodecError, TopicError
from contract.logs import LOGS, MAX_LINES, MAX_PIECE_BYTES, LogLine, LogPiece, LogRequest, log_topic
from contract.sparkplug import Metric, decode, encode

LINE = LogLine(number=3, at_ms=5, level="warning", logger="edge.x", text="it is so")


def test_a_request_arrives_as_it_was_sent() -> None:
    request = LogRequest(request_id="a", level="error", within_s=7, most=9, run="r", after=4)
    (metric,) = decode(encode(request.to_payload(1))).metrics
    assert LogRequest.from_metric(metric) == request


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "",
        "[]",
        "{",
        "{}",
        json.dumps({"request_id": ""}),
        json.dumps({"request_id": "a" * 101}),
        json.dumps({"request_id": "a", "level": "all"}),
        json.dumps({"request_id": "a", "most": MAX_LINES + 1}),
        json.dumps({"request_id": "a", "within_s": 0}),
        json.dumps({"request_id": "a", "more": 1}),
        "[" * 100_000,
    ],
    ids=str,
)
def test_what_is_no_request_is_said_so(wrong: str | int | None) -> None:
    with pytest.raises(CodecError, match=LOGS):
        LogRequest.from_metric(Metric(LOGS, DataType.STRING, wrong, 1))


def test_a_piece_arrives_as_it_was_sent() -> None:
    piece = LogPiece(request_id="a", run="r", piece=2, pieces=3, lines=(LINE,), left_out=4, forgotten=5)
    assert LogPiece.from_json(piece.to_json()) == piece


@pytest.mark.parametrize(
    "wrong",
    [b"", b"\xff", b"{}", b"[]", b'{"request_id": "a", "run": "r", "piece": 65}', b" " * (2 * MAX_PIECE_BYTES + 1)],
    ids=["empty", "no text", "no fields", "a list", "too many pieces", "too long"],
)
def test_what_is_no_piece_is_said_so(wrong: bytes) -> None:
    with pytest.raises(CodecError, match="a piece of a log"):
        LogPiece.from_json(wrong)


def test_a_topic_is_of_one_node_only() -> None:
    assert log_topic("plant", "pi-1") == "headwater/plant/log/pi-1"
    with pytest.raises(TopicError):
        log_topic("plant", "pi/1")
