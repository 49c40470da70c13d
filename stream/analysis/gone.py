"""Incidents of devices that have gone away: no score will end them, so after a while they end as silent."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from stream import turn
from stream.connection import connect, translated
from stream.errors import DatabaseAway

if TYPE_CHECKING:
    from stream.progress import Progress

logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 600.0

# Of any detector and place: the agent that told of an incident has gone with its device.
_END: Final = """
update anomaly a set ended_at = greatest(a.started_at, a.peak_at, heard.at), end_reason = 'silent'
  from anomaly lasting
 cross join lateral (
   select max(newest.sampled_at) as at
     from series s
    cross join lateral (
      select sampled_at from reading
       where series_id = s.series_id and sampled_at >= lasting.started_at
       order by sampled_at desc limit 1) as newest
    where (s.group_id, s.node_id, s.device_id) = (lasting.group_id, lasting.node_id, lasting.device_id)) as heard
 where lasting.ended_at is null and lasting.started_at < now() - make_interval(secs => %(after_s)s)
   and (heard.at is null or heard.at < now() - make_interval(secs => %(after_s)s))
   and a.ended_at is null
   and (a.group_id, a.node_id, a.device_id, a.metric, a.detector, a.place, a.started_at)
     = (lasting.group_id, lasting.node_id, lasting.device_id, lasting.metric, lasting.detector, lasting.place,
        lasting.started_at)
returning a.group_id, a.node_id, a.device_id
"""


class Gone:
    """Looks now and then, by a connection of its own; where the database is away it is for the next time."""

    def __init__(self, dsn: str, after_s: float) -> None:
        self._dsn = dsn
        self._after_s = after_s
        self._look_at_s = 0.0

    def look(self, progress: Progress) -> None:
        """End what is to end, when it is time and nothing waits in Kafka that may tell more."""
        if time.monotonic() < self._look_at_s or progress.lag != 0 or progress.database != "ok":
            return
        self._look_at_s = time.monotonic() + _LOOK_EVERY_S
        try:
            devices = end_silent(self._dsn, self._after_s)
        except DatabaseAway as exc:
            logger.debug("%s", exc)
            return
        if devices:
            logger.warning(
                "incidents ended as silent: nothing came for %.0f s of %s", self._after_s, ", ".join(sorted(devices))
            )


def end_silent(dsn: str, after_s: float) -> set[str]:
    """End the incidents of devices that have told nothing for so long, with what they told last; which devices."""
    with closing(connect(dsn)) as opened, translated(opened), opened.cursor() as cursor:
        turn.take(cursor, "analysis")
        turn.take(cursor, "forecasting")
        cursor.execute(_END, {"after_s": after_s})
        found = {"/".join(row) for row in cursor.fetchall()}
        opened.commit()
    return found
