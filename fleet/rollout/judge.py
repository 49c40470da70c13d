"""What a roll-out does next, by what its nodes have told. No I/O: the same facts give the same verdict.

- *waiting*: its stage has not begun. *asked*: its desired state stands at the broker, and the node has not settled it.
- *confirmed*, *failed*: by its own word. A node that was reached, which is to say that it was there after it had been
  asked, and does not confirm in time has failed too: one that an update has killed says nothing any more. One that was
  never there is no failure; it gets what waits for it at the broker when it comes.
- The next stage begins when all that were reached have settled, one of the stage at least has confirmed, and those that
  have are still there after the soak. One failure more than may be, and it stops.
- What is paused or stopped asks nobody: from nodes that were not reached yet it takes back what it asked of them.
- It is done when all nodes have settled, or when its signed word expires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from contract.update_news import UpdateState
from fleet.view.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from contract.update import Kind

State: TypeAlias = Literal["running", "paused", "stopped", "aborted", "done"]
NodeState: TypeAlias = Literal["waiting", "asked", "confirmed", "failed", "missed"]

OPEN: Final[frozenset[State]] = frozenset(("running", "paused", "stopped"))
SETTLED: Final[frozenset[NodeState]] = frozenset(("confirmed", "failed", "missed"))
# What a node tells of an update that it will not go on with.
FAILURES: Final = frozenset(state for state in UpdateState if state.is_final) - {UpdateState.CONFIRMED}


@dataclass(frozen=True, slots=True)
class Rollout:
    """A roll-out, as its row has it; `stage` counts from 1."""

    rollout_id: int
    group: str
    kind: Kind
    name: str
    version: str
    counter: int
    sha256: str
    size_bytes: int
    unpacked_bytes: int
    url: str | None
    stages: tuple[str, ...]
    stage: int
    max_failed: int
    soak: timedelta
    within: timedelta
    started_by: str
    started_at: datetime
    expires_at: datetime
    state: State
    reason: str | None
    published_at: datetime | None
    driven_at: datetime | None
    cleared_at: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """What a node said last of the update."""

    counter: int | None
    state: str | None
    running: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a roll-out: what was written down of it, and how it is now; `gone_at` is when it was last lost."""

    node: str
    stage: int
    state: NodeState = "waiting"
    asked_at: datetime | None = None
    reached_at: datetime | None = None
    settled_at: datetime | None = None
    reason: str | None = None
    online: bool = False
    gone_at: datetime | None = None
    told: Told | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether it was reached and has not settled."""
        return self.state == "asked" and self.reached_at is not None

    @property
    def is_away(self) -> bool:
        """Whether it was asked and not seen since."""
        return self.state == "asked" and self.reached_at is None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to do: at the broker first, then in the books; `waits_for` says why there is not more of it."""

    nodes: tuple[Node, ...]
    stage: int
    state: State
    reason: str | None = None
    ask: tuple[str, ...] = ()
    withdraw: tuple[str, ...] = ()
    clear: bool = False
    waits_for: str = ""


def judge(rollout: Rollout, nodes: Sequence[Node], now: datetime) -> Verdict:
    """What to do, at this moment by the database's clock."""
    if rollout.state not in OPEN:
        return _end(rollout, nodes, rollout.state, rollout.reason)
    known = tuple(_settled(rollout, _reached(rollout, node, now), now) for node in nodes)
    if now >= rollout.expires_at:
        return _expire(rollout, known)
    if rollout.state != "running":
        return _halt(rollout, known, rollout.state, rollout.reason)
    if why := _too_bad(rollout, known):
        return _halt(rollout, known, "stopped", why)
    return _go_on(rollout, known, now)


def failed(nodes: Iterable[Node]) -> int:
    """How many have failed."""
    return sum(node.state == "failed" for node in nodes)


def _reached(rollout: Rollout, node: Node, now: datetime) -> Node:
    is_there = node.online or _is_of(rollout, node.told)
    return replace(node, reached_at=now) if node.is_away and is_there else node


def _is_of(rollout: Rollout, told: Told | None) -> bool:
    return told is not None and told.counter == rollout.counter


def _settled(rollout: Rollout, node: Node, now: datetime) -> Node:
    """The node with what it told and how long it took; one that failed for its silence may still confirm."""
    if node.state in ("waiting", "missed"):
        return node
    told = node.told
    if told is not None and _is_of(rollout, told):
        if told.state in FAILURES:
            return _with(node, "failed", told.reason or f"{told.state}, for no reason told", now)
        # One that confirmed and has gone since has failed until it is back.
        if told.state == UpdateState.CONFIRMED and (node.state != "failed" or node.online):
            node = _with(node, "confirmed", None, now)
    elif told is not None and (told.counter or 0) > rollout.counter:
        return _with(node, "failed", f"it was asked for something newer: counter {told.counter}", now)
    if why := _silence(rollout, node, now):
        return _with(node, "failed", why, now)
    return node


def _with(node: Node, state: NodeState, reason: str | None, now: datetime) -> Node:
    if node.state == state:
        return node
    return replace(node, state=state, reason=reason, settled_at=now)


def _silence(rollout: Rollout, node: Node, now: datetime) -> str | None:
    """Why a node that says nothing has failed."""
    if node.is_at_work and node.reached_at is not None and now > node.reached_at + rollout.within:
        return f"it has not confirmed in {rollout.within}, and told last: {_last_word(rollout, node.told)}"
    if node.state == "confirmed" and node.stage == rollout.stage and not node.online:
        since = node.gone_at or node.settled_at
        if since is not None and now > since + rollout.within:
            return f"it confirmed, and has been away for {rollout.within}"
    return None


def _last_word(rollout: Rollout, told: Told | None) -> str:
    if told is None or not _is_of(rollout, told) or told.state is None:
        return "nothing"
    return told.state if told.reason is None else f"{told.state}: {told.reason}"


def _too_bad(rollout: Rollout, nodes: Sequence[Node]) -> str | None:
    if (count := failed(nodes)) > rollout.max_failed:
        return f"{count} of {len(nodes)} nodes failed: allowed were {rollout.max_failed}"
    of_stage = [node for node in nodes if node.stage == rollout.stage]
    if all(node.state == "failed" for node in of_stage):
        return f"no node of stage {rollout.stages[rollout.stage - 1]} has confirmed"
    return None


def _go_on(rollout: Rollout, nodes: tuple[Node, ...], now: datetime) -> Verdict:
    due = tuple(node.node for node in nodes if node.state == "waiting" and node.stage <= rollout.stage)
    verdict = Verdict(nodes, rollout.stage, "running", rollout.reason, ask=due)
    if due or (why := _unfinished(rollout, nodes, now)):
        return replace(verdict, waits_for="" if due else why)
    if rollout.stage < len(rollout.stages):
        return replace(verdict, stage=rollout.stage + 1)
    if away := sum(node.is_away for node in nodes):
        who = counted(away, "node that is away", "nodes that are away")
        return replace(verdict, waits_for=f"{who}, until {rollout.expires_at:%Y-%m-%d %H:%M %Z}")
    return _end(rollout, nodes, "done", None)


def _unfinished(rollout: Rollout, nodes: Sequence[Node], now: datetime) -> str:
    """What the stage still waits for; empty when it is finished but for nodes that are away."""
    if at_work := [node for node in nodes if node.is_at_work]:
        return counted(len(at_work), "node at work", "nodes at work") + _first_reason(rollout, at_work)
    confirmed = [node for node in nodes if node.stage == rollout.stage and node.state == "confirmed"]
    if not confirmed:
        return f"one node of stage {rollout.stages[rollout.stage - 1]} to be there: all are away"
    if lost := sum(not node.online for node in confirmed):
        return counted(lost, "node that confirmed and is away now", "nodes that confirmed and are away now")
    since = max(node.settled_at for node in confirmed if node.settled_at is not None)
    if now < since + rollout.soak:
        return f"the soak, until {since + rollout.soak:%H:%M:%S %Z}"
    return ""


def _first_reason(rollout: Rollout, nodes: Sequence[Node]) -> str:
    """Why one of these does not get on, by its own word."""
    for node in nodes:
        if node.told is not None and node.told.counter == rollout.counter and node.told.reason:
            return f", such as {node.node}: {node.told.reason}"
    return ""


def _halt(rollout: Rollout, nodes: tuple[Node, ...], state: State, reason: str | None) -> Verdict:
    away = tuple(node.node for node in nodes if node.is_away)
    back = tuple(replace(node, state="waiting", asked_at=None) if node.is_away else node for node in nodes)
    # Of one that has stopped nobody waits for anything.
    waits_for = "somebody to resume or abort it" if state == "paused" else ""
    return Verdict(back, rollout.stage, state, reason, withdraw=away, waits_for=waits_for)


def _expire(rollout: Rollout, nodes: Sequence[Node]) -> Verdict:
    begun = rollout.stage == len(rollout.stages)
    reason = f"its signed word has expired, at {rollout.expires_at:%Y-%m-%d %H:%M %Z}"
    return _end(rollout, nodes, "done" if begun else "aborted", reason)


def _end(rollout: Rollout, nodes: Sequence[Node], state: State, reason: str | None) -> Verdict:
    """It is over: who has not settled was missed, and nothing of it stays at the broker."""
    why = "the roll-out ended before it confirmed"
    missed = tuple(
        node if node.state in SETTLED else replace(node, state="missed", reason=why if node.asked_at else None)
        for node in nodes
    )
    return Verdict(missed, rollout.stage, state, reason, clear=rollout.cleared_at is None)
