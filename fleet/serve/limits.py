"""How often somebody may ask."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Who has IPv6 has at least a /64 of it.
_PREFIX_BITS: Final = 64
_MAX_KNOWN: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    """What is left of `burst`, and when that was so."""

    left: float
    at_s: float


class Limit:
    """`burst` at once, and `per_s` in the long run, for each key; the keys seen longest ago are forgotten."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, key: str) -> float:
        """0 where it may go on, which then counts; else the seconds after which it is worth asking again."""
        with self._lock:
            bucket = self._bucket(key)
            if bucket.left >= 1:
                bucket.left -= 1
                return 0.0
            return (1 - bucket.left) / self._per_s

    def _bucket(self, key: str) -> _Bucket:
        now_s = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(self._burst, now_s))
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MAX_KNOWN:
            self._buckets.popitem(last=False)
        bucket.left = min(self._burst, bucket.left + (now_s - bucket.at_s) * self._per_s)
        bucket.at_s = now_s
        return bucket


class Seats:
    """How many may be served at once: `most` in all, `each` of one key."""

    def __init__(self, most: int, each: int) -> None:
        self._most = most
        self._each = each
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Whether there was one free, which is then taken."""
        with self._lock:
            if self._taken.total() >= self._most or self._taken[key] >= self._each:
                return False
            self._taken[key] += 1
            return True

    def free(self, key: str) -> None:
        """One is free again."""
        with self._lock:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


def who(address: str) -> str:
    """By what an address is counted."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _PREFIX_BITS), strict=False))
