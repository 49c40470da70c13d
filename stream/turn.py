"""Turns at what is worked out: the job and replays delete and write the same rows, and never wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from psycopg2.errors import DeadlockDetected

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection, cursor

Turn: TypeAlias = Literal["analysis", "forecasting"]
Result = TypeVar("Result")

# Two numbers, so that nobody else's advisory locks in the database are met by chance.
_OURS: Final = 0x48_57
_NUMBERS: Final[dict[Turn, int]] = {"analysis": 1, "forecasting": 2}
_ATTEMPTS: Final = 5


def take(cursor: cursor, turn: Turn) -> None:
    """Wait until nobody else writes, and keep it so until the transaction ends; before its first row is locked."""
    cursor.execute("select pg_advisory_xact_lock(%s, %s)", (_OURS, _NUMBERS[turn]))


def in_turn(opened: connection, turn: Turn, write: Callable[[cursor], Result]) -> Result:
    """What `write` comes to, committed.

    Done again where PostgreSQL breaks it off for somebody who takes no turns: retention takes chunks away meanwhile.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with opened.cursor() as cursor:
                take(cursor, turn)
                result = write(cursor)
            opened.commit()
        except DeadlockDetected:
            opened.rollback()
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return result
    raise AssertionError("not reached: the last attempt returns or raises")
