"""What an operator reads of a roll-out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fleet.cli import rollout_shown
from fleet.rollout.books import Look
from fleet.rollout.judge import Node, Rollout, Told

if TYPE_CHECKING:
    import pytest

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ROLLOUT = Rollout(
    rollout_id=7,
    group="plant",
    kind="agent",
    name="agent",
    version="2",
    counter=5,
    sha256="",
    size_bytes=1,
    unpacked_bytes=1,
    url=None,
    stages=("100%",),
    stage=1,
    max_failed=0,
    soak=timedelta(0),
    within=timedelta(minutes=5),
    started_by="me",
    started_at=NOW,
    expires_at=NOW + timedelta(days=1),
    state="running",
    reason=None,
    published_at=NOW,
    driven_at=NOW,
    cleared_at=None,
)
WHY = "the disk has not the room that it needs: " + "of 512 MB are left " * 8 + "which is what matters"


def shown(capsys: pytest.CaptureFixture[str], node: Node) -> str:
    rollout_shown.whole(Look(ROLLOUT, (node,), NOW), as_json=False)
    return capsys.readouterr().out


def test_a_node_that_waits_says_why_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    node = Node("n1", 1, "asked", NOW, NOW, told=Told(5, "waiting", "1", WHY))
    assert shown(capsys, node).endswith(f"1     waiting  {WHY}\n")


def test_what_it_said_of_an_earlier_one_is_not_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert WHY not in shown(capsys, Node("n1", 1, "asked", NOW, NOW, told=Told(4, "rolled_back", "1", WHY)))


def test_what_was_written_down_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, Node("n1", 1, "failed", NOW, NOW, NOW, WHY)).endswith(f"{WHY}\n")
