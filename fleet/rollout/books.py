"""The tables of roll-outs, as the role headwater_operator has them; the database's clock is the one that counts."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg2
from psycopg2 import sql
from psycopg2.extras import execute_values

from contract.config import ConfigError
from fleet.errors import FleetError
from fleet.rollout.judge import OPEN
from fleet.rollout.rows import COLUMNS, CONTINUE, GIVEN, NODES, NOTE, OF_TABLE, SILENT, node_of, rollout_of, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from psycopg2.extensions import connection, cursor

    from fleet.rollout.judge import Node, Rollout, State
    from fleet.rollout.plan import Stage

DSN_VARIABLE: Final = "HEADWATER_DSN"
# A host that vanishes without a word must be noticed: libpq would wait for hours.
_TIMEOUTS: Final[dict[str, Any]] = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 60_000}
# Any number will do, as long as nobody else takes it: "roll" as bytes. The other half of the key is the roll-out.
_LOCK: Final = int.from_bytes(b"roll", "big", signed=True)
# A broker that does not answer holds up who clears a roll-out away for a while.
_LOCKED_MS: Final = 120_000


class BooksAwayError(FleetError):
    """The database does not answer: what was to be written may be, or not; looking again tells."""


@dataclass(frozen=True, slots=True)
class Look:
    """A roll-out and its nodes at one moment of the database's clock."""

    rollout: Rollout
    nodes: tuple[Node, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """A roll-out at one moment, and how many of its nodes are in which state."""

    rollout: Rollout
    at: datetime
    states: Mapping[str, int]


def dsn() -> str:
    """The database, by the environment; raises ConfigError."""
    if not (found := os.environ.get(DSN_VARIABLE)):
        raise ConfigError(
            f"the environment variable {DSN_VARIABLE} is not set: name the database in it, "
            "e.g. postgresql://headwater_operator:...@127.0.0.1:5432/headwater"
        )
    return found


class Books:
    """One connection; each method is one transaction. Raises FleetError for what the database refuses."""

    def __init__(self, opened: connection) -> None:
        self._opened = opened

    @classmethod
    @contextmanager
    def open(cls, dsn: str) -> Iterator[Books]:
        """Connects."""
        try:
            opened = psycopg2.connect(dsn, **_TIMEOUTS)
        except psycopg2.Error as exc:
            raise BooksAwayError(f"the database cannot be reached: {_said(exc)}") from exc
        with closing(opened):
            with opened, opened.cursor() as at:
                at.execute("set time zone 'UTC'")
            yield cls(opened)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else begins a roll-out meanwhile, or clears one away: they wait."""
        with self._transaction() as at:
            at.execute("set local lock_timeout = %s", (_LOCKED_MS,))
            at.execute("select pg_advisory_lock(%s, 0)", (_LOCK,))
        try:
            yield
        finally:
            with self._transaction() as at:
                at.execute("select pg_advisory_unlock(%s, 0)", (_LOCK,))

    def begin(self, draft: Rollout, stages: Sequence[Stage]) -> int:
        """Writes down a new roll-out, whose number is not the draft's; one of the same that is not over: FleetError.

        `alone`: of two at once the table's unique index would only tell that the second is one too many.
        """
        given = {OF_TABLE.get(name, name): getattr(draft, name) for name in GIVEN}
        given["stages"] = [stage.name for stage in stages]
        with self._transaction() as at:
            self._check_none_is_open(at, draft)
            at.execute(
                sql.SQL("insert into rollout ({}) values %s returning rollout_id").format(
                    sql.SQL(", ").join(map(sql.Identifier, given))
                ),
                (tuple(given.values()),),
            )
            number: int = _one(at)[0]
            rows = [(number, node, place) for place, stage in enumerate(stages, 1) for node in stage.nodes]
            execute_values(at, "insert into rollout_node (rollout_id, node_id, stage) values %s", rows)
            return number

    def rollout(self, rollout_id: int) -> Rollout:
        """How it is now; raises FleetError where there is none."""
        with self._transaction() as at:
            return self._read(at, rollout_id)

    def look(self, rollout_id: int) -> Look:
        """It and its nodes, and what these have told."""
        with self._transaction() as at:
            rollout = self._read(at, rollout_id)
            asked = {"group": rollout.group, "kind": rollout.kind, "name": rollout.name, "rollout": rollout_id}
            at.execute(NODES, asked)
            nodes = tuple(map(node_of, at.fetchall()))
            at.execute("select now()")
            return Look(rollout, nodes, _one(at)[0])

    def listed(self, limit: int) -> list[Listed]:
        """The newest ones."""
        with self._transaction() as at:
            at.execute(
                f"select {COLUMNS}, now(), (select jsonb_object_agg(n.state, n.nodes) from (select state, "  # noqa: S608 - constants
                "count(*) as nodes from rollout_node r where r.rollout_id = o.rollout_id group by state) n) "
                "from rollout o order by rollout_id desc limit %s",
                (limit,),
            )
            return [Listed(rollout_of(row), now, states) for *row, now, states in at.fetchall()]

    def present(self, group: str) -> frozenset[str]:
        """The nodes of a group that are connected."""
        with self._transaction() as at:
            at.execute(
                f"select node_id from node where group_id = %s and online and last_seen_at > now() - {SILENT}",  # noqa: S608 - a constant
                (group,),
            )
            return frozenset(node for (node,) in at.fetchall())

    def clock(self) -> datetime:
        """What time it is."""
        with self._transaction() as at:
            at.execute("select now()")
            now: datetime = _one(at)[0]
            return now

    def greatest_counter(self) -> int:
        """The greatest counter that was ever used; 0 where none was."""
        with self._transaction() as at:
            at.execute("select coalesce(max(counter), 0) from rollout")
            greatest: int = _one(at)[0]
            return greatest

    def take(self, rollout_id: int) -> bool:
        """Whether it is ours to drive from now on, until the connection ends: nobody else drives it."""
        with self._transaction() as at:
            at.execute("select pg_try_advisory_lock(%s, %s)", (_LOCK, rollout_id))
            return bool(_one(at)[0])

    def note(self, before: Look, nodes: Sequence[Node], stage: int, state: State, reason: str | None) -> bool:
        """Writes down what was done; False, and nothing is, when somebody has changed its state meanwhile."""
        known = {node.node: node for node in before.nodes}
        changed = [node for node in nodes if node != known[node.node]]
        was = before.rollout
        is_new = (stage, state, reason) != (was.stage, was.state, was.reason)
        asked = {"stage": stage, "state": state, "reason": reason, "changed": is_new}
        with self._transaction() as at:
            at.execute("select state from rollout where rollout_id = %s for update", (was.rollout_id,))
            if _one(at)[0] != was.state:
                return False
            at.execute(CONTINUE, asked | {"rollout": was.rollout_id, "before": was.state})
            if changed:
                execute_values(at, NOTE, [row_of(was.rollout_id, node) for node in changed])
            return True

    def published(self, rollout_id: int) -> None:
        """Its chunks stand at the broker."""
        self._set(rollout_id, "published_at = now()")

    def cleared(self, rollout_id: int) -> None:
        """Nothing of it is at the broker any more."""
        self._set(rollout_id, "cleared_at = now()")

    def left(self, rollout_id: int) -> None:
        """Nobody drives it any more."""
        self._set(rollout_id, "driven_at = null")

    def groups_with(self, sha256: str, but: int = 0) -> frozenset[str]:
        """The groups in which a roll-out that is not over needs this file, one of them apart."""
        with self._transaction() as at:
            at.execute(
                "select group_id from rollout where sha256 = %s and rollout_id <> %s and cleared_at is null",
                (sha256, but),
            )
            return frozenset(group for (group,) in at.fetchall())

    def turn(
        self, rollout_id: int, state: State, by: str | None, allowed: Sequence[State], max_failed: int | None = None
    ) -> Rollout:
        """An operator's word: pause, resume or abort; raises FleetError from a state where that cannot be."""
        with self._transaction() as at:
            at.execute(
                "update rollout set state = %s, reason = %s, max_failed = coalesce(%s, max_failed), "  # noqa: S608 - as above
                f"changed_at = now() where rollout_id = %s and state = any(%s) returning {COLUMNS}",
                (state, by, max_failed, rollout_id, list(allowed)),
            )
            row = at.fetchone()
        if row is not None:
            return rollout_of(row)
        found = self.look(rollout_id).rollout
        raise FleetError(f"roll-out {rollout_id} is {found.state}: that can be done to one that is {_either(allowed)}")

    def _set(self, rollout_id: int, what: str) -> None:
        with self._transaction() as at:
            at.execute(f"update rollout set {what} where rollout_id = %s", (rollout_id,))  # noqa: S608 - constants

    def _read(self, at: cursor, rollout_id: int) -> Rollout:
        at.execute(f"select {COLUMNS} from rollout where rollout_id = %s", (rollout_id,))  # noqa: S608 - constants
        if (row := at.fetchone()) is None:
            raise FleetError(f"there is no roll-out {rollout_id}: `rollout list` shows those that there are")
        return rollout_of(row)

    def _check_none_is_open(self, at: cursor, draft: Rollout) -> None:
        at.execute(
            "select rollout_id, state from rollout where (group_id, kind, name) = (%s, %s, %s) and cleared_at is null",
            (draft.group, draft.kind, draft.name),
        )
        if (found := at.fetchone()) is not None:
            number, state = found
            advice = "resume or abort it" if state in OPEN else f"`rollout resume {number}` clears the broker of it"
            raise FleetError(
                f"roll-out {number} of {draft.kind} {draft.name} in group {draft.group} is {state} and not over: "
                f"{advice} first"
            )

    @contextmanager
    def _transaction(self) -> Iterator[cursor]:
        try:
            with self._opened, self._opened.cursor() as at:
                yield at
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
            raise BooksAwayError(f"the database does not answer: {_said(exc)}") from exc
        except psycopg2.errors.UndefinedTable as exc:
            raise FleetError(f"{_said(exc)}: run `python -m db migrate` first") from exc
        except psycopg2.Error as exc:
            raise FleetError(f"the database refused: {_said(exc)}") from exc


def _one(at: cursor) -> tuple[Any, ...]:
    row = at.fetchone()
    assert row is not None  # of statements that always answer
    return row


def _either(states: Sequence[str]) -> str:
    return " or ".join(states)


def _said(exc: psycopg2.Error) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
