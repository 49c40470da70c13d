"""What the provider allows, kept: requests of any second, minute and hour, of the day and the month, and pauses."""

from __future__ import annotations

import json
import logging
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from edge.schedule import backoff_s
from edge.sources.rest.times import iso_utc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge.sources.rest.api import Limits

logger = logging.getLogger(__name__)

# Two requests may arrive closer together than they were sent.
MARGIN_S: Final = 0.1
_DAY_S: Final = 86_400
_MONTH_S: Final = 31 * _DAY_S
LONGEST_PAUSE_S: Final = 3600.0
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_OWN_PAUSE_S: Final = 900.0
# A file is written for each hundredth of a quota, not for each request: flash wears out.
_WRITES_PER_QUOTA: Final = 100
_MAX_FILE_BYTES: Final = 4096


class Window:
    """At most `limit` requests in any `seconds`, wherever the provider's own counting begins."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._seconds = seconds + MARGIN_S
        self._times: deque[float] = deque(maxlen=limit)

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may be made."""
        if len(self._times) < (self._times.maxlen or 0):
            return 0.0
        return max(0.0, self._times[0] + self._seconds - now_s)

    def spend(self, now_s: float) -> None:
        """Notes a request."""
        self._times.append(now_s)


class Quota:
    """Requests of a calendar day or month in the provider's zone."""

    def __init__(self, limit: int, zone: str, *, is_month: bool) -> None:
        self.limit = limit
        self._zone = ZoneInfo(zone)
        self._is_month = is_month
        self.period = ""
        self.used = 0

    @property
    def name(self) -> str:
        """`month` or `day`."""
        return "month" if self._is_month else "day"

    def left(self, now_ms: int) -> int:
        """Requests that are left of the period which a time falls into."""
        self._turn(now_ms)
        return max(0, self.limit - self.used)

    def spend(self, now_ms: int) -> None:
        """Notes a request."""
        self._turn(now_ms)
        self.used += 1

    def refund(self) -> None:
        """Takes back a request."""
        self.used = max(0, self.used - 1)

    @property
    def share_s(self) -> float:
        """Seconds from one request to the next where all of them are spread evenly."""
        return (_MONTH_S if self._is_month else _DAY_S) / self.limit

    def exhaust(self, now_ms: int) -> None:
        """Notes that the provider says there is nothing left."""
        self._turn(now_ms)
        self.used = max(self.used, self.limit)

    def renewed_ms(self, now_ms: int) -> int:
        """UTC ms of the next midnight that renews it."""
        local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(self._zone)
        day = local.date().replace(day=1) + timedelta(days=32) if self._is_month else local.date() + timedelta(days=1)
        midnight = datetime(day.year, day.month, 1 if self._is_month else day.day, tzinfo=self._zone)
        return round(midnight.timestamp() * 1000)

    def restore(self, period: object, used: object) -> None:
        """Takes up what an earlier run had counted."""
        if isinstance(period, str) and isinstance(used, int) and used >= 0:
            self.period, self.used = period, used

    def _turn(self, now_ms: int) -> None:
        local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(self._zone)
        period = local.strftime("%Y-%m" if self._is_month else "%Y-%m-%d")
        if period > self.period:
            self.used = 0
        # A clock that is set back gives no request back.
        self.period = period


class Budget:
    """All limits of one source. It outlives the source's connections, and with a file the agent."""

    def __init__(self, limits: Limits, file: Path | None = None) -> None:
        lengths = ((limits.per_second, 1), (limits.per_minute, 60), (limits.per_hour, 3600))
        self._windows = [Window(limit, seconds) for limit, seconds in lengths if limit is not None]
        quotas = ((limits.per_day, False), (limits.per_month, True))
        self._quotas = [Quota(n, limits.day_zone, is_month=month) for n, month in quotas if n is not None]
        self._file = file
        self._saved: dict[str, tuple[str, int]] = {}
        self._paused_until_s = 0.0
        self._pause_reason = ""
        self._throttled_in_a_row = 0
        self.spent = 0
        self._restore()

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may be made, as far as the windows go; times are monotonic."""
        return max((window.wait_s(now_s) for window in self._windows), default=0.0)

    def refusal(self, now_s: float, now_ms: int) -> str | None:
        """Why nothing may be asked for now, and until when; None if something may."""
        if now_s < self._paused_until_s:
            until_ms = now_ms + (self._paused_until_s - now_s) * 1000
            return f"{self._pause_reason}; next request at {iso_utc(until_ms)}"
        for quota in self._quotas:
            if not quota.left(now_ms):
                return (
                    f"the {quota.name}'s {quota.limit:,} requests are used up; "
                    f"next request at {iso_utc(quota.renewed_ms(now_ms))}"
                )
        return None

    def spend(self, now_s: float, now_ms: int) -> None:
        """Notes a request that is about to be made."""
        self.spent += 1
        for window in self._windows:
            window.spend(now_s)
        for quota in self._quotas:
            quota.spend(now_ms)
        self._save()

    def refund(self) -> None:
        """Takes back a request that has not reached the provider."""
        self.spent -= 1
        for quota in self._quotas:
            quota.refund()

    def spread(self, now_s: float, requests: int, reason: str) -> None:
        """Waits for the share of the quotas that a failed poll has cost: trying again at once would use them up."""
        pause_s = min(requests * max((quota.share_s for quota in self._quotas), default=0.0), LONGEST_PAUSE_S)
        if now_s + pause_s > max(now_s, self._paused_until_s):
            self._paused_until_s, self._pause_reason = now_s + pause_s, reason

    def pause(self, now_s: float, asked_s: float | None, luck: float, reason: str) -> None:
        """Asks for nothing for as long as the provider wants, an hour at most; None: longer each time, less by luck."""
        self._throttled_in_a_row += 1
        own_s = backoff_s(self._throttled_in_a_row, luck, base_s=_FIRST_PAUSE_S, cap_s=_LONGEST_OWN_PAUSE_S)
        pause_s = own_s if asked_s is None else min(max(asked_s, 0.0), LONGEST_PAUSE_S)
        self._paused_until_s = max(self._paused_until_s, now_s + pause_s)
        self._pause_reason = reason

    def exhaust(self, now_s: float, now_ms: int, reason: str) -> None:
        """Takes the provider's word that the day's requests are used up; where we count none, waits an hour."""
        quotas = [quota for quota in self._quotas if quota.name == "day"]
        for quota in quotas:
            quota.exhaust(now_ms)
        if not quotas:
            self.pause(now_s, LONGEST_PAUSE_S, 0.0, reason)
        self._save()

    def answered(self) -> None:
        """Notes that the provider gives answers again."""
        self._throttled_in_a_row = 0

    def details(self, now_ms: int) -> Mapping[str, float | str]:
        """What is left of the quotas."""
        return {f"quota_left_{quota.name}": float(quota.left(now_ms)) for quota in self._quotas}

    def _restore(self) -> None:
        if self._file is None:
            return
        try:
            with self._file.open("rb") as file:
                found = json.loads(file.read(_MAX_FILE_BYTES))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as exc:
            logger.warning("%s: cannot be read, so requests are counted from none: %s", self._file, exc)
            return
        for quota in self._quotas:
            match found:
                case dict() if isinstance(entry := found.get(quota.name), list) and len(entry) == 2:  # noqa: PLR2004 - a pair
                    quota.restore(*entry)
                    self._saved[quota.name] = (quota.period, quota.used)

    def _save(self) -> None:
        """Writes the count down ahead of itself, so that a kill never makes it smaller."""
        if self._file is None or all(self._is_saved(quota) for quota in self._quotas):
            return
        self._saved = {q.name: (q.period, min(q.limit, q.used + q.limit // _WRITES_PER_QUOTA)) for q in self._quotas}
        half = self._file.with_name(f"{self._file.name}.new")
        try:
            half.write_text(json.dumps(self._saved), encoding="ascii")
            half.replace(self._file)
        except OSError as exc:
            logger.warning("%s: the count of requests cannot be kept: %s", self._file, exc.strerror)
            self._file = None

    def _is_saved(self, quota: Quota) -> bool:
        period, used = self._saved.get(quota.name, ("", 0))
        return period == quota.period and quota.used <= used
