"""Roll-outs at a real broker and a real database, to simulated nodes that answer well, badly and never."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.update import opened
from contract.update_news import UpdateNews, UpdateState
from fleet.errors import FleetError
from fleet.rollout.books import Books

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.registry import Registry
    from fleet.rollout.desk import Desk
    from fleet.rollout.judge import Rollout

    Begin = Callable[..., int]
    Ask = Callable[..., list[tuple[Any, ...]]]

EVERY_S = 0.02
SHORT = timedelta(seconds=0.5)


def test_all_get_it_stage_by_stage_and_nothing_stays(
    site: Any, start: Begin, drive: Callable[..., Any], desk: Desk, ask: Ask, wait: Any
) -> None:
    nodes = site(5, n3="never")
    number = start()
    driven = drive(number)
    wait(lambda: "n3" in nodes.asked)
    assert nodes.asked[:1] == ["n1"], "the canary goes first"
    assert set(nodes.asked) == {"n1", "n2", "n3"}, "nobody of the last stage"
    desired = opened(nodes.got["n1"][0], [desk.key.public_key()], "test")
    assert (desired.kind, desired.name, desired.version, len(desired.chunks)) == ("model", "tank", "2", 3)
    wait(lambda: sum("blob" in topic for topic in nodes.retained) == 3)
    assert nodes.content(desired) == (desk.artifacts / desired.sha256).read_bytes()
    nodes.tell("n3", UpdateNews("model", "tank", desired.counter, "2", "2", UpdateState.CONFIRMED))
    assert driven.end().state == "done"
    assert ask("select distinct state from rollout_node where rollout_id = %s", number) == [("confirmed",)]
    assert {opened(got, [desk.key.public_key()], node).counter for node, (got,) in nodes.got.items()} == {
        desired.counter
    }
    wait(lambda: not nodes.retained and not list(desk.artifacts.iterdir()))
    stages = ask("select stage_name, nodes, confirmed from rollout_progress where rollout_id = %s order by 1", number)
    assert stages == [("100%", 2, 2), ("50%", 2, 2), ("canary", 1, 1)]


def test_a_configuration_lies_where_its_node_alone_may_read(
    site: Any, start: Begin, drive: Callable[..., Any], desk: Desk, tmp_path: Path, wait: Any
) -> None:
    nodes = site(3, n1="never")
    nodes.present("n3", online=False)
    (tmp_path / "edge.yaml").write_text("node: n1\n")
    driven = drive(start("100%", kind="config", name="config", file=tmp_path / "edge.yaml"))
    wait(lambda: driven.has("confirmed", "n2") and len(nodes.retained) == 6)
    desired = opened(nodes.got["n1"][0], [desk.key.public_key()], "n1")
    assert nodes.content(desired) == b"node: n1\n"
    # What the broker lets each node read, and nobody else's.
    assert {"/".join(topic.split("/")[2:4]) for topic in nodes.retained} == {f"desired/{node}" for node in nodes.nodes}
    nodes.behaviour["n1"] = "well"
    for node in ("n1", "n3"):
        nodes.present(node, online=True)
    assert driven.end().state == "done"
    wait(lambda: not nodes.retained)


def test_a_canary_that_rolls_back_stops_it(site: Any, start: Begin, run: Any, ask: Ask) -> None:
    nodes = site(5, n1="rolls back")
    number = start()
    rollout = run(number)
    assert (rollout.state, rollout.reason) == ("stopped", "1 of 5 nodes failed: allowed were 0")
    assert nodes.asked == ["n1"]
    assert ask("select reason from rollout_node where rollout_id = %s and state = 'failed'", number) == [
        ("it does not start",)
    ]


def test_nodes_that_never_answer_are_failures(site: Any, start: Begin, run: Any) -> None:
    nodes = site(6, n2="never", n3="refuses")
    rollout = run(start("2,100%", "1", within=SHORT))
    assert (rollout.state, rollout.stage) == ("stopped", 2)
    assert set(nodes.asked) == {"n1", "n2", "n3", "n4", "n5", "n6"}


def test_a_node_that_is_away_gets_it_when_it_comes(
    site: Any, start: Begin, drive: Callable[..., Any], wait: Any
) -> None:
    nodes = site(3)
    nodes.present("n1", online=False)
    driven = drive(start("1,100%"))
    wait(lambda: any(event.reason and event.reason.startswith("1 node that is away") for event in driven.events))
    assert sorted(nodes.asked) == ["n2", "n3"], "those that are there go first"
    assert nodes.desired_at_broker() == {"n1", "n2", "n3"}
    nodes.present("n1", online=True)
    assert driven.end().state == "done"
    assert nodes.asked[-1] == "n1"


def test_a_node_that_is_silent_is_away(site: Any, start: Begin, operator_dsn: str, group: str) -> None:
    nodes = site(3, n1="never")
    nodes.run(
        "update node set last_seen_at = now() - interval '3 minutes' where group_id = %s and node_id = 'n1'", group
    )
    nodes.present("n3", online=False)
    with Books.open(operator_dsn) as books:
        assert books.present(group) == {"n2"}
        look = books.look(start("canary:1,100%"))
    assert [(node.node, node.online) for node in look.nodes] == [("n2", True), ("n1", False), ("n3", False)]
    by_node = {node.node: node for node in look.nodes}
    gone_for = [look.at - node.gone_at for node in (by_node["n1"], by_node["n3"]) if node.gone_at is not None]
    assert [gone.total_seconds() // 60 for gone in gone_for] == [3, 0]


def test_a_pause_takes_back_what_waits_and_a_resume_asks_again(
    site: Any, start: Begin, drive: Callable[..., Any], operator_dsn: str, wait: Any
) -> None:
    nodes = site(3, n1="never")
    nodes.present("n3", online=False)
    number = start("100%")
    driven = drive(number)
    wait(lambda: driven.has("reached", "n1") and driven.has("confirmed", "n2"))
    with Books.open(operator_dsn) as books:
        assert books.turn(number, "paused", "by somebody", ("running",)).reason == "by somebody"
        with pytest.raises(FleetError, match="is paused: that can be done to one that is running"):
            books.turn(number, "paused", "by somebody", ("running",))
        wait(lambda: nodes.desired_at_broker() == {"n1", "n2"})
        nodes.present("n3", online=True)
        wait(lambda: driven.has("withdrawn", "n3"))
        assert "n3" not in nodes.asked
        books.turn(number, "running", None, ("paused", "stopped"))
    wait(lambda: "n3" in nodes.asked)
    nodes.behaviour["n1"] = "well"
    nodes.present("n1", online=True)
    assert driven.end().state == "done"


def test_an_abort_leaves_nothing_at_the_broker(
    site: Any, start: Begin, drive: Callable[..., Any], operator_dsn: str, ask: Ask, wait: Any
) -> None:
    nodes = site(3, n2="never")
    number = start("1,100%")
    driven = drive(number)
    wait(lambda: driven.has("reached", "n2"))
    with Books.open(operator_dsn) as books:
        books.turn(number, "aborted", "by somebody", ("running",))
    assert driven.end().state == "aborted"
    wait(lambda: not nodes.retained)
    found = dict(ask("select node_id, state from rollout_node where rollout_id = %s", number))
    assert (found["n1"], found["n2"]) == ("confirmed", "missed")


def test_the_same_again_brings_the_nodes_that_came_later(
    site: Any, start: Begin, run: Callable[[int], Rollout], registry: Registry, group: str
) -> None:
    nodes = site(2)
    assert run(start()).state == "done"
    registry.add_node("n3", group)
    nodes.present("n3", online=True)
    assert "n3" not in nodes.got, "what was done asks nobody any more"
    assert run(start()).state == "done"
    assert {node: len(got) for node, got in nodes.got.items()} == {"n1": 2, "n2": 2, "n3": 1}
