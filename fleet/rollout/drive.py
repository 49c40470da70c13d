"""From one look to the next: what the verdict says is written down, then done at the broker, then looked at again.

Whoever drives can be killed between any two steps. All that is asked of nodes stands in the tables before it stands at
the broker; who drives next begins by bringing the broker to what the tables say, which does no harm where it is so
already: the same signed bytes at the same topics.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from fleet.errors import FleetError
from fleet.rollout.books import Books, BooksAwayError
from fleet.rollout.judge import OPEN, SETTLED, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleet.rollout.artifact import Artifact
    from fleet.rollout.books import Look
    from fleet.rollout.desk import Desk
    from fleet.rollout.judge import Node, Rollout, Verdict

LOOK_EVERY_S: Final = 2.0
# Brokers lose what they keep when they are started anew without their store, or by somebody's hand.
_LOOK_AT_BROKER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """What has changed: of a node, or of the roll-out itself where `node` is None."""

    what: str
    node: str | None = None
    reason: str | None = None


class TakenError(FleetError):
    """Somebody else drives it."""


class Driver:
    """Drives one roll-out; `tell` hears what happens. Raises TakenError where somebody else does so already."""

    def __init__(
        self,
        dsn: str,
        desk: Desk,
        rollout_id: int,
        tell: Callable[[Event], None],
        look_at_broker_s: float = _LOOK_AT_BROKER_S,
    ) -> None:
        self._dsn = dsn
        self._desk = desk
        self._rollout_id = rollout_id
        self._tell = tell
        self._connection = ExitStack()
        self._books: Books | None = None
        self._artifact: Artifact | None = None
        # What the broker has to be brought to: the node is asked, or it is not.
        self._owed: dict[str, bool] = {}
        self._has_chunks = False
        self._look_at_broker_s = look_at_broker_s
        self._seen_at_broker_s = 0.0
        self._turn = 0
        self._stays = False
        self._waits_for = ""
        self._trouble: str | None = None

    def __enter__(self) -> Self:
        """Takes it over."""
        try:
            rollout = self._take().rollout(self._rollout_id)
            if rollout.state == "running":
                self._artifact = self._desk.artifact(rollout)
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Lets it go: the next one may take it, and whoever looks on sees that nobody has it."""
        if self._books is not None:
            # What cannot be written now shows by its age.
            with suppress(FleetError):
                self._books.left(self._rollout_id)
        self._connection.close()

    def run(self, every_s: float = LOOK_EVERY_S) -> Rollout:
        """Until it is over, or stopped by its threshold; servers that are away are waited for, and told once."""
        self._stays = True
        while True:
            if (rollout := self.try_step()) is not None and rollout.state != "paused" and self.is_at_rest(rollout):
                return rollout
            time.sleep(every_s)

    def settle(self, every_s: float = LOOK_EVERY_S) -> Rollout:
        """Until the broker is what the tables say of one that is paused, stopped or over."""
        while (rollout := self.try_step()) is None or not self.is_at_rest(rollout):
            time.sleep(every_s)
        return rollout

    def is_at_rest(self, rollout: Rollout) -> bool:
        """Whether nothing is left to do until somebody says so."""
        if rollout.state in OPEN:
            return rollout.state != "running" and not self._owed
        return rollout.cleared_at is not None

    def try_step(self) -> Rollout | None:
        """A step; None where a server was away."""
        try:
            rollout = self.step()
        except FleetError as exc:
            if isinstance(exc, BooksAwayError):
                self._connection.close()
                self._books = None
            self._say_trouble(str(exc))
            return None
        self._say_trouble(None)
        return rollout

    def step(self) -> Rollout:
        """Looks, writes down what follows, does it; the roll-out as it is then. Raises FleetError."""
        books = self._books or self._take()
        self._pay()
        look = books.look(self._rollout_id)
        if look.rollout.cleared_at is not None:
            return look.rollout
        self._look_at_broker(look)
        verdict = judge(look.rollout, look.nodes, look.at)
        nodes = _asked(verdict, look)
        if not books.note(look, nodes, verdict.stage, verdict.state, verdict.reason):
            return look.rollout  # somebody has just said something else: looked at again
        self._owed |= dict.fromkeys(verdict.ask, True) | dict.fromkeys(verdict.withdraw, False)
        for event in self._events(look, verdict, nodes):
            self._tell(event)
        self._pay()
        if verdict.clear:
            self._clear(books, look.rollout, nodes)
        return books.rollout(self._rollout_id)

    def _take(self) -> Books:
        """A connection, with the lock that says that it is ours; what the broker should be is done anew."""
        self._connection.close()
        books = self._connection.enter_context(Books.open(self._dsn))
        if not books.take(self._rollout_id):
            raise TakenError(f"roll-out {self._rollout_id} is driven by somebody else already")
        look = books.look(self._rollout_id)
        if look.rollout.state in OPEN:
            begun = [node for node in look.nodes if node.stage <= look.rollout.stage and node.state not in SETTLED]
            self._owed = {node.node: node.state == "asked" for node in begun}
        self._books = books
        return books

    def _pay(self) -> None:
        """Brings the broker to what the tables say."""
        if not self._owed or self._books is None:
            return
        rollout = self._books.rollout(self._rollout_id)
        if rollout.state in OPEN:
            asked = [node for node, is_asked in self._owed.items() if is_asked]
            desk, others = self._desk, [node for node, is_asked in self._owed.items() if not is_asked]
            if asked:
                desk.put_desired(rollout, self._with_chunks(self._books, rollout), asked)
            desk.take_desired(rollout, others)
        self._owed = {}
        self._seen_at_broker_s = time.monotonic()

    def _look_at_broker(self, look: Look) -> None:
        """What nodes need and the broker has lost is put there anew."""
        needed_by = [node.node for node in look.nodes if node.state == "asked"]
        is_due = time.monotonic() > self._seen_at_broker_s + self._look_at_broker_s
        if not needed_by or look.rollout.state not in OPEN or not is_due:
            return
        self._turn += 1
        if self._desk.is_there(look.rollout, needed_by, self._turn):
            self._seen_at_broker_s = time.monotonic()
            return
        self._tell(Event("put again", None, "the broker had lost what it kept of it"))
        self._has_chunks = False
        self._owed = dict.fromkeys(needed_by, True)
        self._pay()

    def _with_chunks(self, books: Books, rollout: Rollout) -> Artifact:
        """The file, whose chunks stand at the broker: whoever drives puts them there anew, as brokers may lose them."""
        if self._artifact is None:
            self._artifact = self._desk.artifact(rollout)
        if rollout.url is None and not self._has_chunks:
            self._desk.put_chunks(rollout, self._artifact)
            books.published(rollout.rollout_id)
            self._has_chunks = True
        return self._artifact

    def _clear(self, books: Books, rollout: Rollout, nodes: Sequence[Node]) -> None:
        """It is over: nothing of it stays at the broker, nor in the operator's directory."""
        self._desk.take_desired(rollout, [node.node for node in nodes])
        # Another one may begin with the same content: before this, and it is seen, or after it, and brings its own.
        with books.alone():
            needed_in = books.groups_with(rollout.sha256, but=rollout.rollout_id)
            if rollout.group not in needed_in:
                self._desk.take_chunks(rollout)
            books.cleared(rollout.rollout_id)
            if not needed_in:
                self._desk.forget(rollout.sha256)

    def _events(self, look: Look, verdict: Verdict, nodes: Sequence[Node]) -> Iterator[Event]:
        known = {node.node: node for node in look.nodes}
        for node in nodes:
            before = known[node.node]
            if node.state != before.state:
                yield Event("withdrawn" if node.state == "waiting" else node.state, node.node, node.reason)
            elif node.is_at_work and before.is_away:
                yield Event("reached", node.node)
        if verdict.stage != look.rollout.stage:
            yield Event(f"stage {look.rollout.stages[verdict.stage - 1]}")
        if verdict.state != look.rollout.state:
            yield Event(verdict.state, None, verdict.reason)
        if self._stays and verdict.waits_for != self._waits_for:
            self._waits_for = verdict.waits_for
            if verdict.waits_for:
                yield Event("waits for", None, verdict.waits_for)

    def _say_trouble(self, trouble: str | None) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._tell(Event("goes on") if trouble is None else Event("trouble", None, trouble))


def _asked(verdict: Verdict, look: Look) -> tuple[Node, ...]:
    asked = frozenset(verdict.ask)
    return tuple(
        replace(node, state="asked", asked_at=look.at) if node.node in asked else node for node in verdict.nodes
    )
