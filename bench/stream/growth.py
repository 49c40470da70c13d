"""How the table grows, for who does not tell of itself."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import psycopg2

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_POLL_S: Final = 0.05
# Pages are appended as rows are written, and looking at their number costs next to nothing.
_BYTES: Final = """
select coalesce(sum(pg_relation_size(c.oid)), 0)::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = '_timescaledb_internal' and c.relname like '%_chunk' and c.relkind = 'r'
"""


class Growth:
    """A context manager that watches from beside; `samples` holds (time, bytes of the table)."""

    def __init__(self, dsn: str) -> None:
        self.samples: list[tuple[float, int]] = []
        self._dsn = dsn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="growth")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def seconds(self, behind: float) -> float:
        """From when a share of what is there in the end was there, to the end; as if the share were exact."""
        final = self.samples[-1][1]
        at_s, grown = next((at_s, grown) for at_s, grown in self.samples if grown >= final * behind)
        return (self.last_s() - at_s) * (1 - behind) / (1 - grown / final)

    def last_s(self) -> float:
        """When it had its full size."""
        final = self.samples[-1][1]
        return next(at_s for at_s, grown in self.samples if grown == final)

    def _run(self) -> None:
        with closing(psycopg2.connect(self._dsn)) as opened, opened.cursor() as cursor:
            opened.autocommit = True
            while not self._stop.wait(_POLL_S):
                cursor.execute(_BYTES)
                (grown,) = cursor.fetchone() or (0,)
                self.samples.append((time.time(), int(grown)))
