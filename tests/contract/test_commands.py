"""Commands and their answers."""

from __future__ import annotations

import pytest

from contract.commands import ANSWER, COMMAND_ID, MAX_ID_CHARACTERS, CommandAnswer, command_id
from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Metric, Payload, decode, encode


@pytest.mark.parametrize(
    "answer",
    [CommandAnswer("pump/speed", done=True, command_id="7", value=41.5), CommandAnswer("x", done=False, reason="no")],
)
def test_an_answer_survives_the_wire(answer: CommandAnswer) -> None:
    [metric] = decode(encode(Payload(1, (answer.to_metric(5),)))).metrics
    assert metric.name == ANSWER
    assert CommandAnswer.from_metric(metric) == answer


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"command": "x", "done": true, "more": 1}'])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match="is no answer"):
        CommandAnswer.from_metric(Metric(ANSWER, DataType.STRING, text, 1))


def test_the_id_is_found_and_bounded() -> None:
    assert command_id([]) is None
    assert command_id([Metric(COMMAND_ID, DataType.STRING, "x" * 1000, 1)]) == "x" * MAX_ID_CHARACTERS
    assert command_id([Metric(COMMAND_ID, DataType.INT32, 5, 1)]) is None
