"""What follows from what nodes tell: by itself, without broker or database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollout.judge import Node, Rollout, Told, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOAK, WITHIN = timedelta(minutes=10), timedelta(minutes=30)
ROLLOUT = Rollout(
    rollout_id=7,
    group="plant",
    kind="model",
    name="tank",
    version="2",
    counter=5,
    sha256="0" * 64,
    size_bytes=10,
    unpacked_bytes=10,
    url=None,
    stages=("canary", "half", "100%"),
    stage=1,
    max_failed=1,
    soak=SOAK,
    within=WITHIN,
    started_by="somebody",
    started_at=T0,
    expires_at=T0 + timedelta(days=7),
    state="running",
    reason=None,
    published_at=None,
    driven_at=None,
    cleared_at=None,
)
CONFIRMED = Told(5, "confirmed", "2", None)
BACK = Told(5, "rolled_back", "1", "it does not start")


def nodes(*stages: int, online: bool = True) -> tuple[Node, ...]:
    """So many nodes in each stage."""
    return tuple(
        Node(f"s{stage}-{number}", stage, online=online)
        for stage, count in enumerate(stages, 1)
        for number in range(count)
    )


class World:
    """A roll-out that is driven: what the verdict says is done, and the clock goes on."""

    def __init__(self, *stages: int, **changes: object) -> None:
        self.nodes = nodes(*stages)
        self.rollout = replace(ROLLOUT, stages=ROLLOUT.stages[: len(stages)], **changes)  # type: ignore[arg-type]  # of the test
        self.at = T0
        self.asked: list[str] = []
        self.verdict = Verdict(self.nodes, 1, "running")

    def go(self, minutes: float = 0.1, times: int = 1) -> Verdict:
        for _ in range(times):
            self.at += timedelta(minutes=minutes)
            self.verdict = judge(self.rollout, self.nodes, self.at)
            self.asked += self.verdict.ask
            self.nodes = tuple(
                replace(node, state="asked", asked_at=self.at) if node.node in self.verdict.ask else node
                for node in self.verdict.nodes
            )
            self.rollout = replace(
                self.rollout, state=self.verdict.state, stage=self.verdict.stage, reason=self.verdict.reason
            )
        return self.verdict

    def tell(self, told: Told | None, *names: str) -> None:
        self._set(names, told=told)

    def present(self, *names: str, online: bool) -> None:
        self._set(names, online=online, gone_at=None if online else self.at)

    def _set(self, names: Sequence[str], **changes: object) -> None:
        known = {node.node for node in self.nodes}
        assert set(names) <= known
        self.nodes = tuple(
            replace(node, **changes) if node.node in names else node  # type: ignore[arg-type]  # of the test
            for node in self.nodes
        )

    def states(self) -> dict[str, str]:
        return {node.node: node.state for node in self.nodes}


def test_a_stage_begins_when_the_one_before_has_confirmed_and_soaked() -> None:
    world = World(1, 2, 2)
    assert world.go().ask == ("s1-0",)
    assert world.go().waits_for == "1 node at work"
    world.tell(CONFIRMED, "s1-0")
    assert world.go().waits_for.startswith("the soak, until 12:10")
    assert world.go(9).ask == ()
    assert (world.go(2).stage, world.asked) == (2, ["s1-0"])
    assert world.go().ask == ("s2-0", "s2-1")
    world.tell(CONFIRMED, "s2-0")
    assert world.go(11, times=2).waits_for == "1 node at work"
    world.tell(CONFIRMED, "s2-1")
    world.go(6, times=3)
    assert world.rollout.stage == 3


def test_it_is_done_when_the_last_stage_has_soaked_and_is_then_cleared() -> None:
    world = World(1)
    world.go()
    world.tell(CONFIRMED, "s1-0")
    assert world.go().state == "running"
    verdict = world.go(11)
    assert (verdict.state, verdict.clear, verdict.reason) == ("done", True, None)
    assert judge(replace(world.rollout, cleared_at=world.at), world.nodes, world.at).clear is False


def test_what_is_told_of_another_counter_counts_for_nothing() -> None:
    world = World(1)
    world.go()
    world.tell(replace(CONFIRMED, counter=4), "s1-0")
    assert world.go().waits_for == "1 node at work"
    world.tell(Told(None, None, "1", None), "s1-0")
    assert world.go().waits_for == "1 node at work"
    world.tell(replace(CONFIRMED, state="waiting", reason="its clock"), "s1-0")
    assert world.go().waits_for == "1 node at work, such as s1-0: its clock"
    world.tell(replace(CONFIRMED, counter=6), "s1-0")
    assert world.go().nodes[0].reason == "it was asked for something newer: counter 6"


def test_one_failure_more_than_may_be_stops_it_and_asks_nobody() -> None:
    world = World(1, 4, 20)
    world.go()
    world.tell(CONFIRMED, "s1-0")
    world.go(11, times=3)
    world.tell(BACK, "s2-0")
    assert world.go().state == "running"
    world.tell(Told(5, "refused", None, None), "s2-1")
    verdict = world.go()
    assert (verdict.state, verdict.reason) == ("stopped", "2 of 25 nodes failed: allowed were 1")
    assert [node.reason for node in world.nodes if node.state == "failed"] == [
        "it does not start",
        "refused, for no reason told",
    ]
    world.tell(CONFIRMED, "s2-2", "s2-3")
    assert world.go(60, times=5).ask == ()
    assert world.states()["s3-0"] == "waiting"


def test_a_node_that_an_update_kills_has_failed_when_its_time_is_over() -> None:
    world = World(1)
    world.go(times=2)
    world.tell(Told(5, "waiting", "1", "no room"), "s1-0")
    world.present("s1-0", online=False)
    assert world.go(29).state == "running"
    verdict = world.go(2)
    assert verdict.state == "stopped"
    assert verdict.nodes[0].reason == "it has not confirmed in 0:30:00, and told last: waiting: no room"


def test_a_node_that_is_late_may_still_confirm() -> None:
    world = World(2, max_failed=2)
    world.go(times=2)
    world.tell(CONFIRMED, "s1-0")
    world.go(31)
    assert world.states()["s1-1"] == "failed"
    world.tell(CONFIRMED, "s1-1")
    world.go()
    assert world.states()["s1-1"] == "confirmed"


def test_a_node_that_is_away_neither_fails_nor_holds_the_others_up() -> None:
    world = World(2, 1)
    world.present("s1-1", online=False)
    world.go()
    world.tell(CONFIRMED, "s1-0")
    world.go(60)
    world.go(60)
    assert world.rollout.stage == 2
    world.go(1)
    world.tell(CONFIRMED, "s2-0")
    assert world.go(60, times=3).waits_for == "1 node that is away, until 2026-01-08 12:00 UTC"
    world.present("s1-1", online=True)
    assert world.go().waits_for == "1 node at work"
    world.tell(CONFIRMED, "s1-1")
    world.go(11, times=2)
    assert world.rollout.state == "done"


def test_a_canary_that_is_away_is_waited_for() -> None:
    world = World(1, 5)
    world.present("s1-0", online=False)
    assert world.go(60, times=20).waits_for == "one node of stage canary to be there: all are away"
    assert world.asked == ["s1-0"]


def test_a_stage_of_which_none_confirms_stops_it_whatever_may_fail() -> None:
    world = World(2, 5, max_failed=7)
    world.go()
    world.tell(BACK, "s1-0", "s1-1")
    assert world.go().reason == "no node of stage canary has confirmed"


def test_a_node_that_confirms_and_goes_holds_the_stage_and_then_fails() -> None:
    world = World(2, 1)
    world.go()
    world.tell(CONFIRMED, "s1-0", "s1-1")
    world.go()
    world.present("s1-1", online=False)
    assert world.go(15).waits_for == "1 node that confirmed and is away now"
    world.go(16)
    assert world.states()["s1-1"] == "failed"
    world.present("s1-1", online=True)
    world.go()
    assert world.states()["s1-1"] == "confirmed", "it is back, and runs what it shall"


def test_a_node_that_rolls_back_in_the_soak_has_failed() -> None:
    world = World(1, 5, max_failed=0)
    world.go()
    world.tell(CONFIRMED, "s1-0")
    world.go(5)
    world.tell(BACK, "s1-0")
    assert world.go().state == "stopped"


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_what_is_halted_takes_back_what_nobody_has_got_yet(state: str) -> None:
    world = World(3, 1, max_failed=3)
    world.present("s1-2", online=False)
    world.go(times=2)
    world.rollout = replace(world.rollout, state=state)  # type: ignore[arg-type]  # one of them
    assert world.go().withdraw == ("s1-2",)
    assert world.go().withdraw == ()
    assert world.states() == {"s1-0": "asked", "s1-1": "asked", "s1-2": "waiting", "s2-0": "waiting"}
    world.tell(CONFIRMED, "s1-0")
    world.go()
    assert world.states()["s1-0"] == "confirmed", "what is on its way is watched all the same"
    world.rollout = replace(world.rollout, state="running")
    assert world.go().ask == ("s1-2",)


def test_what_is_aborted_leaves_nothing() -> None:
    world = World(2, 1)
    world.go(times=2)
    world.tell(CONFIRMED, "s1-0")
    world.go()
    world.rollout = replace(world.rollout, state="aborted", reason="by somebody")
    verdict = world.go()
    assert (verdict.clear, verdict.reason) == (True, "by somebody")
    assert world.states() == {"s1-0": "confirmed", "s1-1": "missed", "s2-0": "missed"}
    assert [node.reason for node in world.nodes] == [None, "the roll-out ended before it confirmed", None]


def test_its_word_expires() -> None:
    world = World(1, 1)
    world.present("s1-0", online=False)
    world.go(times=2)
    verdict = world.go(60 * 24 * 7)
    assert (verdict.state, verdict.clear) == ("aborted", True)
    assert verdict.reason == "its signed word has expired, at 2026-01-08 12:00 UTC"
    world = World(2)
    world.present("s1-0", online=False)
    world.go(times=2)
    world.tell(CONFIRMED, "s1-1")
    assert world.go(60 * 24 * 7).state == "done", "all were asked"


ANSWERS = st.sampled_from([None, CONFIRMED, BACK, Told(5, "fetching", "1", None), replace(CONFIRMED, counter=4)])


@given(st.data())
def test_whatever_nodes_tell_no_more_are_asked_than_may_be(data: st.DataObject) -> None:
    world = World(1, 2, 4, max_failed=data.draw(st.integers(0, 3)))
    for _ in range(data.draw(st.integers(1, 30))):
        names = data.draw(st.sets(st.sampled_from([node.node for node in world.nodes]), max_size=4))
        if data.draw(st.booleans()):
            world.present(*names, online=data.draw(st.booleans()))
        else:
            # A node tells only what it was asked.
            world.tell(data.draw(ANSWERS), *(node.node for node in world.nodes if node.node in names and node.asked_at))
        before = world.rollout
        verdict = world.go(data.draw(st.sampled_from([0.1, 5, 20])))
        of_stage = {node.node: node.stage for node in world.nodes}
        assert verdict.stage in (before.stage, before.stage + 1)
        assert all(of_stage[node] <= before.stage for node in verdict.ask)
        assert not (verdict.ask and verdict.withdraw)
        bad = sum(node.state == "failed" for node in world.nodes)
        if bad > world.rollout.max_failed:
            assert (verdict.state, verdict.ask) != ("running", ())
            assert verdict.state in ("stopped", "aborted", "done")
        if verdict.stage > before.stage:
            assert any(node.state == "confirmed" for node in world.nodes if node.stage == before.stage)
            assert not any(node.is_at_work for node in world.nodes)
