"""A node as the database and the operator's home know it, and what of it needs somebody. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator  # noqa: TC003 - dataclasses read the annotations
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from contract.update_news import UpdateState
from fleet.view.wording import UNKNOWN, ago, counted, number, share, span, until

# Those of the dashboards: a node tells its health every ten seconds, whatever else it reads.
SILENT_AFTER: Final = timedelta(minutes=2)
SPOOL_FULL: Final = 0.125
HOT_CELSIUS: Final = 70.0
DISK_LOW: Final = 0.1
# What was on its way when a node was revoked comes later, and clocks differ.
_STILL_TOLD: Final = timedelta(seconds=15)
# A certificate is renewed when a third of its life is left, which is ten days or more.
CERTIFICATE_LOW: Final = timedelta(days=7)


# Who is locked out comes again each hour.
SHOWN_AGAIN_TOLD: Final = timedelta(days=7)


class Trouble(NamedTuple):
    """What somebody should look at; `kind` stays the same while the numbers in the text change."""

    kind: str
    text: str


class State(StrEnum):
    """Whether a node is there; a new one was enrolled, and has never come, a revoked one does not come again."""

    NEVER = "new"
    OFFLINE = "offline"
    SILENT = "silent"
    ONLINE = "online"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class FailedUpdate:
    """An update that a node did not take, or has put back: its last word of that kind and name."""

    what: str
    wanted: str | None
    state: str
    reason: str | None
    told_at: datetime

    @property
    def outcome(self) -> str:
        """What became of it, as people say it."""
        return "put back" if self.state == UpdateState.ROLLED_BACK else self.state


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a node; None is what it has not told within a day."""

    group: str
    name: str
    online: bool = False
    seen_at: datetime | None = None
    born_at: datetime | None = None
    died_at: datetime | None = None
    told_at: datetime | None = None
    version: str | None = None
    uptime_s: float | None = None
    memory_mib: float | None = None
    celsius: float | None = None
    clock_synchronised: float | None = None
    clock_offset_ms: float | None = None
    disk_free_bytes: float | None = None
    disk_bytes: float | None = None
    spool_batches: float | None = None
    spool_bytes: float | None = None
    spool_limit_bytes: float | None = None
    set_aside: float | None = None
    lost: float | None = None
    undelivered: int | None = None
    given_up: int | None = None
    produced: int | None = None
    site: str | None = None
    certificate_ends_at: datetime | None = None
    revoked_at: datetime | None = None
    # When a certificate was shown that a renewal had called back.
    shown_again_at: datetime | None = None
    # The newest first, and not all of very many.
    failed_updates: tuple[FailedUpdate, ...] = ()

    @property
    def full_name(self) -> str:
        """Its group and name."""
        return f"{self.group}/{self.name}"

    @property
    def spool_share(self) -> float | None:
        """How much of what its spool may keep is taken."""
        return (
            None
            if self.spool_bytes is None or not self.spool_limit_bytes
            else self.spool_bytes / self.spool_limit_bytes
        )

    @property
    def disk_share(self) -> float | None:
        """How much of its disk is free."""
        return None if self.disk_free_bytes is None or not self.disk_bytes else self.disk_free_bytes / self.disk_bytes

    @property
    def lost_batches(self) -> int | None:
        """Batches that are gone for good: for want of room on the device, in this run of its agent, or on the way."""
        known = [count for count in (self.lost, self.given_up) if count is not None]
        return int(sum(known)) if known else None

    def state(self, now: datetime) -> State:
        """Whether it is there."""
        if self.revoked_at is not None and not self._is_still_there(now, self.revoked_at):
            return State.REVOKED
        if self.seen_at is None:
            return State.NEVER
        if not self.online:
            return State.OFFLINE
        return State.SILENT if now - self.seen_at > SILENT_AFTER else State.ONLINE

    def _is_still_there(self, now: datetime, revoked_at: datetime) -> bool:
        """Whether something came of it since; it cannot say any more that it goes, so `online` alone tells nothing."""
        return (
            self.online
            and self.seen_at is not None
            and self.seen_at > revoked_at + _STILL_TOLD
            and now - self.seen_at <= SILENT_AFTER
        )

    def troubles(self, now: datetime) -> tuple[Trouble, ...]:
        """What somebody should look at, the worst first; of a revoked one that has gone nothing any more."""
        if self.state(now) is State.REVOKED:
            return ()
        return tuple(trouble for find in _TROUBLES for trouble in find(self, now))


def _is_away(node: Node, now: datetime) -> Iterator[Trouble]:
    match node.state(now):
        case State.ONLINE if node.revoked_at is not None:
            yield Trouble("revoked", "revoked, but still connected: `fleet revoke` it again")
        case State.NEVER if node.certificate_ends_at is None:
            yield Trouble("new", "enrolled, but has not fetched its certificate yet")
        case State.NEVER:
            yield Trouble("new", "has its certificate, but was never seen")
        case State.OFFLINE if node.seen_at is not None:
            yield Trouble("offline", f"offline, last seen {span((now - node.seen_at).total_seconds())} ago")
        case State.SILENT if node.seen_at is not None:
            yield Trouble("silent", f"connected, but says nothing for {span((now - node.seen_at).total_seconds())}")


def _has_a_double(node: Node, now: datetime) -> Iterator[Trouble]:
    if node.shown_again_at is not None and now - node.shown_again_at < SHOWN_AGAIN_TOLD:
        yield Trouble(
            "copied key",
            f"two renew its certificate, as was seen {ago(node.shown_again_at, now)}: somebody has a copy of its key; "
            "`fleet revoke` it, look at it, and enrol it anew",
        )


def _certificate_ends(node: Node, now: datetime) -> Iterator[Trouble]:
    if node.certificate_ends_at is None or node.revoked_at is not None:
        return
    if node.certificate_ends_at <= now:
        yield Trouble("certificate", "its certificate has ended: enrol it again")
    elif node.certificate_ends_at - now < CERTIFICATE_LOW:
        yield Trouble(
            "certificate", f"its certificate ends in {until(node.certificate_ends_at, now)}, and was not renewed"
        )


def _did_not_take(node: Node, _now: datetime) -> Iterator[Trouble]:
    for update in node.failed_updates:
        why = "" if update.reason is None else f": {update.reason}"
        yield Trouble("update", f"{update.what} {update.wanted or UNKNOWN} {update.outcome}{why}")


def _keeps_too_much(node: Node, _now: datetime) -> Iterator[Trouble]:
    if node.spool_share is not None and node.spool_share >= SPOOL_FULL:
        yield Trouble("spool", f"its spool is {share(node.spool_share)} full")
    if node.disk_share is not None and node.disk_share < DISK_LOW:
        yield Trouble("disk", f"{share(node.disk_share)} of its disk is free")
    if node.set_aside:
        yield Trouble(
            "spoilt spools", f"{counted(node.set_aside, 'spoilt spool', 'spoilt spools')}, for somebody to look at"
        )


def _has_lost(node: Node, _now: datetime) -> Iterator[Trouble]:
    if node.lost:
        yield Trouble("lost", f"{counted(node.lost, 'batch', 'batches')} lost on the device, for want of room")
    if node.given_up:
        yield Trouble("given up", f"{counted(node.given_up, 'batch', 'batches')} never came, and no longer kept")
    if node.undelivered:
        yield Trouble("undelivered", f"{counted(node.undelivered, 'batch', 'batches')} not come yet")


def _is_unwell(node: Node, _now: datetime) -> Iterator[Trouble]:
    if node.clock_synchronised == 0:
        yield Trouble("clock", "its clock is not synchronised")
    if node.celsius is not None and node.celsius >= HOT_CELSIUS:
        yield Trouble("hot", f"its processor has {number(node.celsius, ' °C')}")


_TROUBLES: Final[tuple[Callable[[Node, datetime], Iterator[Trouble]], ...]] = (
    _has_a_double,
    _is_away,
    _certificate_ends,
    _did_not_take,
    _keeps_too_much,
    _has_lost,
    _is_unwell,
)
_SEVERITY: Final = {State.OFFLINE: 0, State.SILENT: 1, State.NEVER: 2, State.ONLINE: 3, State.REVOKED: 4}


def worst_first(nodes: list[Node], now: datetime) -> list[Node]:
    """The nodes in the order in which they need somebody."""
    return sorted(nodes, key=lambda node: (_SEVERITY[node.state(now)], -len(node.troubles(now)), node.group, node.name))
