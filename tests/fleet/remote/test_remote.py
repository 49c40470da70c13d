"""Commands and logs with nodes of somebody else's, without a node, without a broker, and wrongly used."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from contract.commands import ANSWER, COMMAND_ID, RELOAD, CommandAnswer
from contract.config import ConfigError
from contract.datatypes import DataType
from contract.logs import LOGS, LogLine, LogPiece, log_topic
from contract.sparkplug import REBIRTH, Metric, Payload
from contract.topics import MessageType, Topic
from fleet.remote.command import value_of

if TYPE_CHECKING:
    from pathlib import Path

    from stack import Mosquitto


def broker(mosquitto: Mosquitto, wait_s: float = 10) -> tuple[str, ...]:
    return "--broker", f"127.0.0.1:{mosquitto.port}", "--wait", str(wait_s)


def answering(**answer: Any) -> Any:
    """Says so to whatever is asked, with the id that it carries."""

    def says(_topic: Topic, payload: Payload) -> list[tuple[MessageType, list[Metric]]]:
        sent_id = next(metric.value for metric in payload.metrics if metric.name == COMMAND_ID)
        other = CommandAnswer("x", done=True, command_id="somebody else's")
        own = CommandAnswer("x", command_id=str(sent_id), **answer)
        garbled = Metric(ANSWER, DataType.STRING, "{", 1)
        return [(MessageType.NDATA, [garbled, other.to_metric(1), own.to_metric(2)])]

    return says


def test_the_answer_with_the_commands_id_is_waited_for(said: Any, mosquitto: Mosquitto, stranger: Any) -> None:
    stranger.says = answering(done=False, reason="\x1b[2Jnot today")
    code, out, err = said("command", f"{stranger.group}/pi-1", "reload", *broker(mosquitto))
    assert (code, out) == (1, "")
    assert err.startswith(f"reload {stranger.group}/pi-1: refused after ")
    assert ": ?[2Jnot today (id " in err
    (payload,) = stranger.got
    assert (payload.metrics[0].name, payload.metrics[0].value) == (RELOAD, True)


def test_what_calls_itself_done_but_is_not_true_is_not_done(said: Any, mosquitto: Mosquitto, stranger: Any) -> None:
    stranger.says = answering(done="yes")
    assert said("command", f"{stranger.group}/pi-1", "reload", *broker(mosquitto))[0] == 1


def test_a_birth_answers_a_rebirth(said: Any, mosquitto: Mosquitto, stranger: Any) -> None:
    stranger.says = lambda *_: [(MessageType.NBIRTH, [Metric(REBIRTH, DataType.BOOLEAN, value=False, timestamp_ms=1)])]
    node = f"{stranger.group}/pi-1"
    code, out, err = said("command", node, "rebirth", *broker(mosquitto)[:2], "--json")
    assert (code, json.loads(out)["state"]) == (0, "done")
    assert err == f"waiting for a birth of {node}, up to 20 s\n", "as long as births may take"


def test_a_node_of_others_shows_by_its_metric(said: Any, mosquitto: Mosquitto, stranger: Any) -> None:
    told = [(MessageType.DDATA, [Metric("valve", DataType.DOUBLE, 0.5, 1)])]
    stranger.says = lambda *_: told
    words = ("write", "line", "valve", "0.5", "--yes")
    code, _, err = said("command", f"{stranger.group}/pi-1", *words, *broker(mosquitto, 0.7))
    assert code == 1
    assert "unanswered: no answer within 0.7 s; it is not known whether it was carried out" in err
    assert "since then valve has told 0.5" in err


def test_a_node_that_says_nothing(said: Any, mosquitto: Mosquitto, stranger: Any) -> None:
    node = f"{stranger.group}/pi-1"
    code, _, err = said("command", node, "rebirth", *broker(mosquitto, 0.3))
    assert (code, "no birth within 0.3 s" in err) == (1, True)
    assert "when a bridge has taken the node's births" in said("command", node, "reload", *broker(mosquitto, 0.3))[2]
    code, out, err = said("logs", node, *broker(mosquitto, 0.3))
    assert (code, out) == (1, "")
    assert "only an agent of Headwater's tells its log, no other Sparkplug node does" in err


def test_an_agent_that_is_too_old_for_logs(said: Any, mosquitto: Mosquitto, stranger: Any) -> None:
    stranger.says = answering(done=False, reason="is no command; there are Node Control/Rebirth")
    code, _, err = said("logs", f"{stranger.group}/pi-1", *broker(mosquitto))
    assert code == 1
    assert "the node's agent is too old for this: is no command" in err


def test_pieces_of_a_log_in_any_order_and_others_between_them(said: Any, mosquitto: Mosquitto, stranger: Any) -> None:
    def says(_topic: Topic, payload: Payload) -> list[Any]:
        asked = json.loads(str(next(metric.value for metric in payload.metrics if metric.name == LOGS)))
        line = LogLine(number=1, at_ms=0, level="warn\x1bing", logger="edge.x", text="\x1b[2Jone\n    File x")
        first = LogPiece(request_id=asked["request_id"], run="r", pieces=2, lines=(line,), left_out=1, forgotten=2)
        second = LogPiece(**(dict(first) | {"piece": 2, "lines": (line.model_copy(update={"text": "two"}),)}))
        other = LogPiece(**(dict(first) | {"request_id": "another"}))
        topic = log_topic(stranger.group, "pi-1")
        stranger.raw = [(topic, piece.to_json()) for piece in (other, second, first)] + [(topic, b"nonsense")]
        return []

    stranger.says = says
    code, out, err = said("logs", f"{stranger.group}/pi-1", *broker(mosquitto))
    assert code == 0
    lines = out.splitlines()
    assert [line.split("edge.x: ")[-1] for line in lines] == ["?[2Jone", "        File x", "two"]
    assert "warn?ing" in lines[0]
    assert err.splitlines() == [
        "-- 2 older lines are no longer kept by the node --",
        "-- 1 older line is not shown: ask for less, or worse ones --",
    ]


def test_a_node_that_is_not_connected(said: Any, mosquitto: Mosquitto) -> None:
    for command in (("command", "g/nobody", "reload"), ("logs", "g/nobody")):
        code, _, err = said(*command, *broker(mosquitto))
        assert (code, err) == (1, "fleet: the node is not connected to the broker: nobody got the command\n")


def test_a_broker_that_is_not_there(said: Any) -> None:
    for command in (("command", "g/n", "reload"), ("logs", "g/n")):
        code, _, err = said(*command, "--broker", "127.0.0.1:1")
        assert code == 1
        assert err.startswith("fleet: the broker at 127.0.0.1:1 cannot be reached: ")


def test_a_revoked_node_is_not_waited_for(said: Any, fleet: Any) -> None:
    fleet.home.add_node("pump-1", "plant")
    fleet.home.registry.revoke("pump-1")
    for name in ("pump-1", "plant/pump-1"):
        for command in (("command", name, "reload"), ("logs", name)):
            code, out, err = said(*command, "--home", str(fleet.home.path))
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert err.startswith("fleet: pump-1 was revoked at 2")
    other = ("annex/pump-1", "reload", "--dry-run", "--home", str(fleet.home.path))
    assert said("command", *other)[0] == 0, "it is another node"


def test_a_group_that_the_home_has_not_is_a_mistake(said: Any, fleet: Any) -> None:
    fleet.home.add_node("pump-1", "plant")
    for command in (("command", "plnt/pump-1", "reload"), ("logs", "plnt/pump-1")):
        code, out, err = said(*command, "--home", str(fleet.home.path))
        assert (code, out, err) == (2, "", "NODE: its group: found 'plnt', allowed: annex, plant\n")


def test_a_dry_run_sends_nothing(said: Any) -> None:
    words = ("write", "line", "valve", "0.5", "--dry-run", "--broker", "127.0.0.1:1")
    code, out, _ = said("command", "g/n", *words)
    assert (code, out) == (0, "would write 0.5 (DOUBLE) to valve of line at g/n, on spBv1.0/g/DCMD/n/line\n")
    assert json.loads(said("command", "g/n", *words, "--json")[1])["topic"] == "spBv1.0/g/DCMD/n/line"


def test_a_write_asks_and_no_is_the_default(
    said: Any, mosquitto: Mosquitto, stranger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("command", f"{stranger.group}/pi-1", "write", "line", "valve", "1", *broker(mosquitto))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, _, err = said(*words)
    assert (code, "say --yes where nobody can be asked" in err) == (2, True)
    for answer in ("\n", "n\n", ""):
        terminal = io.StringIO(answer)
        terminal.isatty = lambda: True  # type: ignore[method-assign]  # a stand-in
        monkeypatch.setattr("sys.stdin", terminal)
        code, _, err = said(*words)
        assert code == 1
        assert err == f"write 1 (INT64) to valve of line at {stranger.group}/pi-1? [y/N] nothing was sent\n"
    assert stranger.got == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("command", "pi-1", "reload"), "of which group? Say GROUP/pi-1"),
        (("logs", "g/"), "allowed are 1 to 128 bytes"),
        (("logs", "g/a+b"), "allowed are 1 to 128 bytes"),
        (("command", "g/n", "write", "a/b", "m", "1", "--yes"), "no '/'"),
        (("logs", "g/n"), "`fleet init` makes one, --home names another; or say --broker HOST"),
        (("logs", "g/n", "--ca", "x"), "go with --broker"),
        (("logs", "g/n", "--broker", "h:port"), "allowed: HOST[:PORT]"),
        (("logs", "g/n", "--broker", "h", "--cert", "x"), "--cert and --key are given together"),
        (("logs", "g/n", "--broker", "192.0.2.1", "--user", "me"), "in the clear"),
        (("logs", "g/n", "--broker", "h", "--ca", "/nowhere.pem"), "/nowhere.pem: cannot be used"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_wrong_use_is_said_in_a_line(
    said: Any, words: tuple[str, ...], complaint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADWATER_FLEET", raising=False)
    code, out, err = said(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert complaint.replace("no '/'", "'/'") in err


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", None, (DataType.BOOLEAN, True)),
        ("False", None, (DataType.BOOLEAN, False)),
        ("12", None, (DataType.INT64, 12)),
        ("-1.5", None, (DataType.DOUBLE, -1.5)),
        ("open", None, (DataType.STRING, "open")),
        ("12", "string", (DataType.STRING, "12")),
        ("12", "double", (DataType.DOUBLE, 12.0)),
        ("65535", "uint16", (DataType.UINT16, 65535)),
    ],
    ids=str,
)
def test_a_value_is_what_it_looks_like_or_is_said_to_be(text: str, kind: str | None, value: tuple[Any, Any]) -> None:
    assert value_of(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [("65536", "uint16"), ("1.5", "int32"), ("x", "double"), ("nan", None), ("1e999", None), ("1", "boolean")],
    ids=str,
)
def test_what_its_type_cannot_hold_is_refused(text: str, kind: str | None) -> None:
    with pytest.raises(ConfigError, match="VALUE: found"):
        value_of(text, kind)
