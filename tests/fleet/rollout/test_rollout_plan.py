"""Stages and amounts: what a person writes, and which nodes that are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config import ConfigError
from fleet.rollout.plan import STAGES, Amount, span, stages


def named(text: str, nodes: int) -> list[tuple[str, int]]:
    return [(stage.name, len(stage.nodes)) for stage in stages(text, [f"n{number}" for number in range(nodes)])]


def test_stages_count_from_the_first_node() -> None:
    assert named(STAGES, 100) == [("canary", 1), ("10%", 9), ("50%", 40), ("100%", 50)]
    assert named("canary:2,half:50%,all:100%", 9) == [("canary", 2), ("half", 3), ("all", 4)]
    assert named("1,5,100%", 7) == [("1", 1), ("5", 4), ("100%", 2)]


def test_a_stage_without_nodes_of_its_own_is_left_out() -> None:
    assert named(STAGES, 1) == [("canary", 1)]
    assert named(STAGES, 3) == [("canary", 1), ("50%", 1), ("100%", 1)]
    assert named("100", 3) == [("100", 3)]


@given(
    st.integers(1, 300),
    st.lists(st.one_of(st.integers(1, 400).map(str), st.integers(1, 99).map("{}%".format)), max_size=6),
)
def test_each_node_is_in_one_stage_and_in_order(nodes: int, parts: list[str]) -> None:
    names = [f"n{number}" for number in range(nodes)]
    made = stages(",".join([*parts, "100%"]), names)
    assert [node for stage in made for node in stage.nodes] == names
    assert all(stage.nodes for stage in made)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found ''"),
        ("canary", "found 'canary'"),
        ("canary:1,,100%", "found ''"),
        ("1,50%", "ends with 5 of 10 nodes: let the last one be 100%"),
        ("150%", "at most 100%"),
        ("0,100%,x:y", "found 'x:y'"),
        ("-1,100%", "found '-1'"),
        (",".join(["1"] * 60), "60 of them"),
    ],
)
def test_other_stages_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        stages(text, [f"n{number}" for number in range(10)])


def test_there_are_nodes() -> None:
    with pytest.raises(ConfigError, match="there are no nodes"):
        stages(STAGES, [])


def test_part_of_a_node_may_not_fail() -> None:
    five = Amount.parse("5%", "--max-failed")
    assert [five.of(nodes, up=False) for nodes in (1, 19, 20, 39, 40, 500)] == [0, 0, 1, 1, 2, 25]
    assert Amount.parse("7%", "x").of(100, up=True) == 7
    assert Amount.parse("3", "x").of(2, up=False) == 2
    for wrong in ("5 %", "canary:1", "101%", "", "many", "1e3"):
        with pytest.raises(ConfigError, match=r"^--max-failed: found"):
            Amount.parse(wrong, "--max-failed")


def test_spans_have_a_unit() -> None:
    assert span("90s", "--soak") == timedelta(seconds=90)
    assert [span(text, "x").total_seconds() for text in ("0s", "10m", "2h", "7d")] == [0, 600, 7200, 604_800]
    for wrong in ("", "10", "m", "-1s", "1.5h", "400d"):
        with pytest.raises(ConfigError, match=r"^--soak: found"):
            span(wrong, "--soak")
    with pytest.raises(ConfigError, match="--within"):
        span("0s", "--within", least=timedelta(seconds=1))
