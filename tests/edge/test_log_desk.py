"""The node's own log: kept within bounds, and told to whoever asks for it, not too often."""

from __future__ import annotations

import itertools
import logging
import sys
from typing import Any

import pytest

from contract.commands import COMMAND_ID, RELOAD
from contract.datatypes import DataType
from contract.logs import LOGS, MAX_LINES, MAX_PIECE_BYTES, LogPiece, LogRequest
from contract.sparkplug import Metric, Payload
from edge.batch import NODE
from edge.log_desk import LogDesk
from edge.log_ring import LogRing
from edge.logs import Bounded, Remembering


def record(text: str, level: int = logging.INFO, at_s: float = 1_800_000_000.0, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("edge.x", level, "x.py", 1, text, None, None)
    made.created = at_s
    made.__dict__.update(more)
    return made


def a_ring(*records: logging.LogRecord) -> LogRing:
    ticks = itertools.count(100)
    ring = LogRing(lambda: float(next(ticks)))  # a second from line to line
    for each in records:
        ring.add(each, each.getMessage())
    return ring


def fail(text: str) -> None:
    raise ValueError(text)


class Sent:
    """What a desk sends and hands on."""

    def __init__(self, ring: LogRing | None) -> None:
        self.pieces: list[LogPiece] = []
        self.handed_on: list[tuple[str, Payload]] = []
        self.desk = LogDesk(ring, ("plant", "pi-1"), self._say, lambda *command: self.handed_on.append(command))

    def _say(self, topic: str, payload: bytes) -> None:
        assert topic == "headwater/plant/log/pi-1"
        assert len(payload) <= MAX_PIECE_BYTES + 2000
        self.pieces.append(LogPiece.from_json(payload))

    def ask(self, **wanted: Any) -> list[str]:
        """The lines of the answer, of all its pieces."""
        self.pieces.clear()
        self.desk.submit(NODE, LogRequest(request_id="a", **wanted).to_payload(1))
        assert [piece.piece for piece in self.pieces] == list(range(1, len(self.pieces) + 1))
        assert all(piece.pieces == len(self.pieces) for piece in self.pieces)
        return [line.text for piece in self.pieces for line in piece.lines]


def test_lines_of_a_level_or_worse_are_told() -> None:
    sent = Sent(a_ring(record("fine"), record("odd", logging.WARNING), record("bad", logging.CRITICAL)))
    assert sent.ask() == ["fine", "odd", "bad"]
    assert sent.ask(level="warning") == ["odd", "bad"]
    assert sent.pieces[0].lines[1].level == "critical"


def test_lines_of_the_last_while_and_the_newest_so_many() -> None:
    # Whatever the clock of the device says meanwhile.
    sent = Sent(a_ring(*(record(f"line {n}", at_s=1e6 - 1000 * n) for n in range(10))))
    assert sent.ask(within_s=3) == ["line 7", "line 8", "line 9"]
    assert sent.pieces[0].left_out == 0
    assert sent.ask(most=2) == ["line 8", "line 9"]
    assert sent.pieces[0].left_out == 8


def test_lines_after_the_last_known_of_this_run_alone() -> None:
    ring = a_ring(*(record(f"line {n}") for n in range(1, 5)))
    sent = Sent(ring)
    assert sent.ask(run=ring.run, after=3) == ["line 4"]
    assert sent.ask(run=ring.run, after=4) == []
    assert len(sent.pieces) == 1, "no news is an answer, too"
    assert len(sent.ask(run="another run", after=3)) == 4


def test_a_ring_is_bounded_by_lines_and_by_characters() -> None:
    many = a_ring(*(record(f"{n}") for n in range(3000)))
    assert len(many._lines) == 2000
    sent = Sent(many)
    assert len(sent.ask()) == MAX_LINES
    assert (sent.pieces[0].left_out, sent.pieces[0].forgotten) == (1500, 1000)
    long = a_ring(*(record("x" * 5000) for _ in range(2000)))
    assert sum(len(line.text) for _, _, line in long._lines) == long._characters <= 256 * 1024
    assert max(len(line.text) for _, _, line in long._lines) == 1000


def test_a_long_answer_comes_in_pieces_that_brokers_take() -> None:
    sent = Sent(a_ring(*(record("é" * 1000) for _ in range(200))))
    assert len(sent.ask()) == 200
    assert len(sent.pieces) > 10


def test_what_asks_too_often_is_not_answered() -> None:
    sent = Sent(a_ring(record("line")))
    answers = [len(sent.ask()) for _ in range(50)]
    assert 5 <= sum(answers) <= 8
    assert answers[0] == 1


def test_an_agent_without_a_ring_says_so() -> None:
    sent = Sent(None)
    assert sent.ask() == []
    assert sent.pieces[0].reason == "this agent keeps no log"


def test_other_commands_are_handed_on_whole() -> None:
    sent = Sent(a_ring(record("line")))
    asked = LogRequest(request_id="a").to_payload(1).metrics
    reload = Metric(RELOAD, DataType.BOOLEAN, value=True, timestamp_ms=1)
    sent_id = Metric(COMMAND_ID, DataType.STRING, "c-1", 1)
    sent.desk.submit(NODE, Payload(1, (reload, *asked, sent_id)))
    assert sent.handed_on == [(NODE, Payload(1, (reload, sent_id)))]
    assert len(sent.pieces) == 1
    # A metric of that name of a device is a metric like any other.
    sent.desk.submit("plant", Payload(1, asked))
    assert sent.handed_on[1] == ("plant", Payload(1, asked))
    assert len(sent.pieces) == 1


@pytest.mark.parametrize("value", [None, "", "{}", 7], ids=str)
def test_a_garbled_request_is_passed_over(value: str | int | None) -> None:
    sent = Sent(a_ring(record("line")))
    sent.desk.submit(NODE, Payload(1, (Metric(LOGS, DataType.STRING, value, 1),)))
    assert sent.pieces == []
    assert sent.handed_on == []


def test_what_is_written_is_kept_without_what_commands_a_terminal() -> None:
    ring = LogRing()
    handler = Remembering(ring)
    handler.addFilter(Bounded())
    handler.stream = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115, PTH123 - closed below
    try:
        fail("deep\x9b2J")
    except ValueError:
        failed = record("told\x1b]0;title\x07", exc_info=sys.exc_info())
    handler.handle(failed)
    for _ in range(100):
        handler.handle(record("again", lineno=7))
    handler.stream.close()
    lines = [line.text for _, _, line in ring._lines]
    assert lines[0].startswith("told?]0;title?\nTraceback")
    assert "deep?2J" in lines[0]
    assert lines.count("again") == 30, "what is not written is not kept"
