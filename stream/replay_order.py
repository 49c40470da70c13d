"""What came late is noted by the analysis and stored by the ingest, each in its own time: a replay needs both."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from stream.connection import connect, translated
from stream.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg2.extensions import connection

Ledger: TypeAlias = Literal["ingest_batch", "analysis_batch"]

_POLL_S: Final = 0.5
# A micro-batch names only the partitions that it read. Of those that no newer entry names nothing has come for hours.
_ENDS: Final = """
select partition, (array_agg(next_offset::bigint order by committed_at desc, batch_id desc))[1]
  from (select committed_at, batch_id, offsets from {} order by committed_at desc limit 5000) as newest
 cross join jsonb_each_text(coalesce(offsets -> %s, '{{}}')) as ends (partition, next_offset)
 group by partition
"""


def wait_for_ingest(dsn: str, topic: str, tell: Callable[[str], None], wait_s: float = 60.0) -> None:
    """Wait until the ingest has stored what the analysis had read when this was called.

    Otherwise a replay would miss readings that are noted as late, and forget the note. Raises FatalError when that
    takes longer, and DatabaseAway.
    """
    with closing(connect(dsn)) as opened, translated(opened):
        noted, deadline = _ends(opened, "analysis_batch", topic), time.monotonic() + wait_s
        is_told = False
        while behind := _behind(_ends(opened, "ingest_batch", topic), noted):
            if time.monotonic() >= deadline:
                raise FatalError(
                    f"the ingest is {behind} records behind the analysis, and what is noted as late may not be stored "
                    "yet: see that it runs, and do this again when it has caught up"
                )
            if not is_told:
                tell(f"waiting for the ingest, which is {behind} records behind the analysis")
                is_told = True
            time.sleep(_POLL_S)


def _ends(opened: connection, ledger: Ledger, topic: str) -> Mapping[str, int]:
    """The next offset of each partition, by the ledger."""
    with opened.cursor() as cursor:
        cursor.execute(_ENDS.format(ledger), (topic,))
        found: dict[str, int] = dict(cursor.fetchall())
    opened.commit()
    return found


def _behind(stored: Mapping[str, int], noted: Mapping[str, int]) -> int:
    """How many records; a partition that only the analysis names lately was stored before, if anything is."""
    if not stored:
        return sum(noted.values())
    return sum(max(0, noted[partition] - stored[partition]) for partition in noted.keys() & stored.keys())
