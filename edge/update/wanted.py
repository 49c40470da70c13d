"""What the fleet wants of this node: what comes on its topics, accepted or refused, and when each is due."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Final

from edge.errors import UpdateError
from edge.update.acceptance import accept
from edge.update.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from contract.update import Desired
    from edge.update.acceptance import Accepted
    from edge.update.ledger import Ledger

# More topics than a node has models are nobody's desired states.
_MAX_WAITING: Final = 256


class Wanted:
    """The desired states of a node (its group and id) that are to be worked on, one of each kind and name.

    `keys` gives, in a thread of its own, the keys that are trusted; `ledger` has what was taken before, and `refuse`
    hears why one is not taken.
    """

    def __init__(
        self,
        node: tuple[str, str],
        keys: Callable[[], Sequence[Ed25519PublicKey]],
        ledger: Ledger,
        refuse: Callable[[str], None],
        retry_s: float,
    ) -> None:
        self._node = node
        self._keys = keys
        self._ledger = ledger
        self._refuse = refuse
        self._inbox: dict[str, bytes] = {}
        self._accepted: dict[str, Accepted] = {}
        self._retry_s = retry_s
        self._retries = Retries(retry_s)
        # Retained, the same comes at each connection: it is refused once, and again by other keys alone.
        self._known_refused: set[str] = set()
        self._refused_by: Sequence[Ed25519PublicKey] = ()
        self._no_keys = ""

    @property
    def desired(self) -> list[Desired]:
        """All that is to be worked on."""
        return [each.desired for each in self._accepted.values()]

    def take(self, topic: str, payload: bytes) -> None:
        """A message on one of the node's topics; an empty one takes back what was there."""
        if topic in self._inbox or len(self._inbox) < _MAX_WAITING:
            self._inbox[topic] = payload

    async def read(self) -> list[Accepted]:
        """Looks at what has come; returns what was taken back by that."""
        gone = []
        keys = await self._known_keys() if any(self._inbox.values()) else None
        for topic, payload in list(self._inbox.items()):
            if payload and keys is None:
                continue  # it is looked at again
            del self._inbox[topic]
            if not payload or keys is None:
                gone += self._taken_back(topic)
            elif (accepted := self._opened(topic, payload, keys)) is not None:
                self._want(accepted)
        return gone

    def has(self, accepted: Accepted) -> bool:
        """Whether it is still what is wanted."""
        return self._accepted.get(accepted.desired.key) is accepted

    def done(self, accepted: Accepted) -> None:
        """Nothing more is to be done for it."""
        self._accepted.pop(accepted.desired.key, None)
        self._retries.forget(accepted.desired.key)

    # When each is tried.

    def due(self) -> Accepted | None:
        """One that is to be worked on now."""
        now_s = time.monotonic()
        return next((each for key, each in self._accepted.items() if self._retries.is_due(key, now_s)), None)

    def is_due_beside(self, accepted: Accepted) -> bool:
        """Whether another one is to be worked on now."""
        now_s = time.monotonic()
        return any(key != accepted.desired.key and self._retries.is_due(key, now_s) for key in self._accepted)

    def until_due_s(self) -> float | None:
        """Seconds until there is one, or what could not be looked at is looked at again; None: nothing waits."""
        due_s = self._retries.until_due_s(self._accepted, time.monotonic())
        if not self._inbox:
            return due_s
        return self._retry_s if due_s is None else min(due_s, self._retry_s)

    def put_off(self, accepted: Accepted, *, got_on: bool) -> None:
        """It is tried again in a while: a short one where it has `got_on`, else twice as long as the last."""
        if got_on:
            self._retries.forget(accepted.desired.key)
        self._retries.put_off(accepted.desired.key, time.monotonic())

    def all_now(self) -> None:
        """There is a connection again: nothing waits any longer."""
        self._retries.all_now()

    def _want(self, accepted: Accepted) -> None:
        key = accepted.desired.key
        before = self._accepted.get(key)
        if before is None or before.desired.counter < accepted.desired.counter:
            self._accepted[key] = accepted
            self._retries.forget(key)

    async def _known_keys(self) -> Sequence[Ed25519PublicKey] | None:
        """The keys that are trusted; None while that is not known, which is told once."""
        try:
            keys = await asyncio.to_thread(self._keys)
        except UpdateError as exc:
            if str(exc) != self._no_keys:
                self._no_keys = str(exc)
                self._refuse(self._no_keys)
            return None
        self._no_keys = ""
        if keys != self._refused_by:
            self._known_refused.clear()
            self._refused_by = keys
        return keys

    def _opened(self, topic: str, payload: bytes, keys: Sequence[Ed25519PublicKey]) -> Accepted | None:
        """What is to be worked on; None for what is known, or refused."""
        digest = hashlib.sha256(payload).hexdigest()
        if digest in self._known_refused:
            return None
        try:
            return accept(payload, keys, self._node, self._ledger.standings)
        except UpdateError as exc:
            if len(self._known_refused) < _MAX_WAITING:
                self._known_refused.add(digest)
            self._refuse(f"{topic!r}: {exc}")
            return None

    def _taken_back(self, topic: str) -> list[Accepted]:
        """The operator has deleted a desired state: what is not yet tried waits, and may be wanted again later."""
        key = "/".join(topic.split("/")[-2:])
        node = topic.split("/")[3] if topic.count("/") > 3 else ""  # noqa: PLR2004 - headwater/GROUP/desired/NODE/...
        accepted = self._accepted.get(key)
        if accepted is None or accepted.desired.target.node != node:
            return []
        del self._accepted[key]
        return [accepted]
