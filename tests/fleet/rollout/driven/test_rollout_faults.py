"""Roll-outs whose driver dies, whose servers are away or forget, and that get into each other's way."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.update import blob_topic, desired_topic
from fleet.errors import FleetError
from fleet.rollout.books import Books
from fleet.rollout.drive import Driver, TakenError
from fleet.session import Broker, Session
from stack import Mosquitto, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet.registry import Registry
    from fleet.rollout.desk import Desk
    from fleet.rollout.judge import Rollout

    Begin = Callable[..., int]
    Ask = Callable[..., list[tuple[Any, ...]]]

EVERY_S = 0.02
SHORT = timedelta(seconds=0.5)


def test_whoever_drives_may_die_at_any_step(
    site: Any, start: Begin, operator_dsn: str, desk: Desk, ask: Ask, wait: Any
) -> None:
    """Each driver makes one step and is gone, before or after it has done at the broker what it has written down."""
    nodes = site(4)
    number = start()
    steps = itertools.count()

    def step() -> bool:
        with Driver(operator_dsn, desk, number, lambda _: None) as driver, pytest.MonkeyPatch.context() as patch:
            if next(steps) % 3 == 1:
                patch.setattr(driver, "_pay", lambda: None)
            return driver.step().cleared_at is not None

    wait(step)
    assert {node: len(set(got)) for node, got in nodes.got.items()} == dict.fromkeys(nodes.nodes, 1), (
        "devices refuse other bytes of the same counter"
    )
    assert any(len(got) > 1 for got in nodes.got.values()), "asked again"
    assert ask("select distinct state from rollout_node where rollout_id = %s", number) == [("confirmed",)]
    wait(lambda: not nodes.retained)


def test_of_two_operators_one_drives_and_the_other_is_told(
    site: Any, start: Begin, operator_dsn: str, desk: Desk, registry: Registry
) -> None:
    site(2, n1="never")
    number = start()
    with (
        Driver(operator_dsn, desk, number, lambda _: None) as first,
        pytest.raises(TakenError, match=f"roll-out {number} is driven by somebody else already"),
        Driver(operator_dsn, desk, number, lambda _: None),
    ):
        pytest.fail("two at once")
    assert first is not None
    before = registry.next_counter()
    with pytest.raises(
        FleetError, match=rf"roll-out {number} of model tank .* is running and not over: resume or abort"
    ):
        start()
    with Driver(operator_dsn, desk, number, lambda _: None) as again:
        assert again.step().state == "running"
    assert registry.next_counter() > before, "a counter is spent, and never used again"
    assert [path.stat().st_size > 0 for path in desk.artifacts.iterdir()] == [True], "the first one's file is there"


def test_what_was_done_and_not_cleared_is_cleared_first(
    site: Any, start: Begin, run: Any, operator_dsn: str, desk: Desk
) -> None:
    site(1, n1="never")
    number = start()
    with Driver(operator_dsn, desk, number, lambda _: None) as driver:
        driver.step()
    with Books.open(operator_dsn) as books:
        books.turn(number, "aborted", None, ("running",))
    with pytest.raises(FleetError, match=f"is aborted and not over: `rollout resume {number}` clears the broker"):
        start()
    assert run(number).cleared_at is not None
    assert start() > number


def test_the_counter_is_above_all_that_were_even_with_an_old_copy_of_the_directory(
    site: Any, start: Begin, run: Any, ask: Ask, registry: Registry, tmp_path: Path
) -> None:
    site(1)
    number = start()
    assert run(number).state == "done"
    ((used,),) = ask("select counter from rollout where rollout_id = %s", number)
    (tmp_path / "registry.sqlite").unlink()
    registry.make()
    registry.add_node("n1", ask("select group_id from rollout where rollout_id = %s", number)[0][0])
    again = start()
    assert ask("select counter from rollout where rollout_id = %s", again) > [(used,)]


def test_a_broker_that_is_away_is_told_once_and_waited_for(
    site: Any, start: Begin, drive: Callable[..., Any], desk: Desk, mosquitto: Mosquitto, wait: Any
) -> None:
    nodes = site(2)
    port = [free_port()]

    @contextmanager
    def lent() -> Iterator[Broker]:
        yield Broker(mosquitto.host, port[0], "operator-away", None, 5.0)

    driven = drive(start(), replace(desk, broker=lent))
    wait(lambda: driven.has("trouble"))
    port[0] = mosquitto.port
    assert driven.end().state == "done"
    troubles = [event.what for event in driven.events if event.what in ("trouble", "goes on")]
    assert troubles == ["trouble", "goes on"]
    assert sorted(nodes.asked) == ["n1", "n2"]


def test_a_database_that_is_away_is_told_once_and_waited_for(
    site: Any, start: Begin, drive: Callable[..., Any], ask: Ask, wait: Any
) -> None:
    nodes = site(2, n1="never")
    driven = drive(start())
    wait(lambda: driven.has("reached", "n1"))
    ask("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'headwater_operator'")
    wait(lambda: driven.has("goes on"))
    nodes.behaviour["n1"] = "well"
    nodes.present("n1", online=True)
    assert driven.end().state == "done"


def test_a_broker_that_refuses_says_which_topic(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite allowed/#\n")
    with (
        Mosquitto(extra=[f"acl_file {tmp_path / 'acl'}"]) as strict,
        Session(Broker(strict.host, strict.port, "operator", None, 5.0)) as session,
    ):
        assert session.keep((f"allowed/{number}", b"x") for number in range(100)) == 100
        with pytest.raises(FleetError, match=r"headwater/g/desired/n/model/m is refused: Not authorized \(135\)"):
            session.keep([(desired_topic("g", "n", "model", "m"), b"x")])


def test_what_the_broker_has_lost_is_put_there_again_as_long_as_somebody_needs_it(
    site: Any, start: Begin, drive: Callable[..., Any], desk: Desk, wait: Any
) -> None:
    """As one does that is started anew without its store, and as somebody does who clears it by hand."""
    nodes = site(3, n1="never")
    driven = drive(start("100%"), impatient(desk), 0)
    wait(lambda: driven.has("confirmed", "n3") and len(nodes.retained) == 6)
    (asked,) = [topic for topic in nodes.retained if "/n1/" in topic]
    chunks = sorted(topic for topic in nodes.retained if "/blob/" in topic)
    # Another's name than the driver's, which would be thrown out.
    with desk.broker() as broker, Session(replace(broker, client_id="")) as session:
        session.keep((topic, b"") for topic in (asked, *chunks))
    wait(lambda: "n1" in nodes.withdrawn)
    wait(lambda: driven.has("put again") and {asked, *chunks} <= nodes.retained.keys())
    assert set(nodes.got["n1"]) == {nodes.retained[asked]}, "the same bytes"
    nodes.behaviour["n1"] = "well"
    nodes.present("n1", online=True)
    assert driven.end().state == "done"
    wait(lambda: not nodes.retained)


def test_whatever_is_lost_is_missed_in_its_turn(site: Any, start: Begin, operator_dsn: str, desk: Desk) -> None:
    nodes = site(2)
    with Books.open(operator_dsn) as books:
        rollout = books.rollout(start("100%"))
    artifact = desk.artifact(rollout)
    desk.put_chunks(rollout, artifact)
    desk.put_desired(rollout, artifact, nodes.nodes)
    assert all(desk.is_there(rollout, nodes.nodes, turn) for turn in range(6))
    chunks = [blob_topic(rollout.group, rollout.sha256, number) for number in range(3)]
    asked = [desired_topic(rollout.group, node, "model", "tank") for node in nodes.nodes]
    # In which of its turns each is looked for.
    for topic, turn in zip((*chunks, *asked), (5, 1, 3, 2, 3), strict=True):
        with desk.broker() as broker, Session(broker) as session:
            session.keep([(topic, b"")])
        assert not impatient(desk).is_there(rollout, nodes.nodes, turn), topic
        desk.put_chunks(rollout, artifact)
        desk.put_desired(rollout, artifact, nodes.nodes)


def impatient(desk: Desk) -> Desk:
    """One that soon takes for lost what has not come: what it takes for that too early is only put there again."""

    @contextmanager
    def lent() -> Iterator[Broker]:
        with desk.broker() as broker:
            yield replace(broker, silence_s=1.0)

    return replace(desk, broker=lent)


def test_one_that_ends_leaves_what_another_of_the_same_content_needs(
    site: Any, start: Begin, operator_dsn: str, desk: Desk, monkeypatch: pytest.MonkeyPatch, wait: Any
) -> None:
    """Though that one begins in the very moment in which the first looks for whom to leave it."""

    def run(number: int) -> Rollout:
        with Driver(operator_dsn, desk, number, lambda _: None) as driver:
            return driver.run(EVERY_S)

    nodes = site(2, n2="never")
    first = start(nodes=("n1",))
    begun: list[int] = []
    asked, look_for_others = threading.Event(), Books.groups_with

    def begin_another() -> None:
        begun.append(start(name="other", nodes=("n2",)))
        with Driver(operator_dsn, desk, begun[0], lambda _: None) as driver:
            wait(lambda: driver.step() and nodes.asked[-1:] == ["n2"])
        asked.set()

    other = threading.Thread(target=begin_another)

    def groups_with(books: Books, sha256: str, but: int = 0) -> frozenset[str]:
        found = look_for_others(books, sha256, but)
        if but == first:
            other.start()
            asked.wait(1)  # it gets there if it may
        return found

    monkeypatch.setattr(Books, "groups_with", groups_with)
    assert run(first).state == "done"
    other.join(20)
    assert asked.is_set()
    wait(lambda: sum("/blob/" in topic for topic in nodes.retained) == 3)
    nodes.behaviour["n2"] = "well"
    nodes.present("n2", online=True)
    assert run(begun[0]).state == "done"
    wait(lambda: not nodes.retained)


def test_what_strangers_tell_breaks_nothing(site: Any, ask: Ask, group: str) -> None:
    nodes = site(8)
    odd = [
        *("", "[]", "no JSON", '{"counter": "7"}', '{"counter": 1e400}', '{"counter": 1.5, "state": {"a": 1}}'),
        *('{"counter": 123456789012345678901234567890, "running": null}', '{"state": "' + "x" * 10_000 + '"}'),
    ]
    for node, text in zip(nodes.nodes, odd, strict=True):
        nodes.tell_text(node, "Update/agent/agent", text)
    nodes.tell_text("n1", "Update/agent/agent/else", "{}")
    nodes.tell_text("n1", "Update/other/agent", "{}")
    found = ask("select node_id, kind, name, counter, length(state) from node_update where group_id = %s", group)
    assert sorted(found) == [
        (f"n{number}", "agent", "agent", 7 if number == 4 else None, {6: 8, 8: 100}.get(number))
        for number in range(1, 9)
    ]
