"""The node's updates: desired states taken in one after another, fetched, tried, and told of."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from contract.update import UpdateNews, UpdateState, update_metric
from edge.errors import NotNowError, RolledBackError, UpdateError
from edge.update.acceptance import accept, check_expiry
from edge.update.ledger import Standing
from edge.update.retries import Retries
from edge.update.telling import REFUSED_METRIC
from edge.uplink.seldom import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from contract.update import Desired
    from edge.update.acceptance import Accepted
    from edge.update.config import UpdateConfig
    from edge.update.fetching import Fetcher
    from edge.update.kinds import Outcome, Updated, UpdateKind
    from edge.update.ledger import Ledger
    from edge.update.staging import Staging

logger = logging.getLogger(__name__)

# More topics than a node has models are nobody's desired states.
_MAX_WAITING: Final = 256


class Updates:
    """Takes signed states by `take`, and works on them in `run`, one at a time; `tell` gets what is to be told.

    `keys` gives the keys that are trusted, and `utc_ms` the time, None while it is not known for sure.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        config: UpdateConfig,
        host: Updated,
        *,
        kinds: Mapping[str, UpdateKind],
        ledger: Ledger,
        staging: Staging,
        fetcher: Fetcher,
        keys: Callable[[], Sequence[Ed25519PublicKey]],
        utc_ms: Callable[[], int | None],
        tell: Callable[[Sequence[tuple[str, str]]], None],
    ) -> None:
        self.refused = 0
        self.refusal: str | None = None
        self._config = config
        self._host = host
        self._kinds = kinds
        self._ledger = ledger
        self._staging = staging
        self._fetcher = fetcher
        self._keys = keys
        self._utc_ms = utc_ms
        self._tell = tell
        self._inbox: dict[str, bytes] = {}
        self._wanted: dict[str, Accepted] = {}
        self._retries = Retries(config.retry_s)
        self._told: dict[str, str] = {}
        self._news = asyncio.Event()
        self._seldom = Seldom()
        self._known_refused: set[str] = set()

    def take(self, topic: str, payload: bytes) -> None:
        """A message on one of the node's topics; an empty one takes back what was there."""
        if topic in self._inbox or len(self._inbox) < _MAX_WAITING:
            self._inbox[topic] = payload
        self._news.set()

    def forget(self) -> None:
        """Births were sent: all is told again, and what waited for a connection is tried again."""
        self._told.clear()
        self._retries.all_now()
        self._news.set()

    @property
    def news(self) -> list[UpdateNews]:
        """How it stands with everything that there is."""
        standings = dict(self._ledger.standings)
        found = []
        for kind in self._kinds:
            for name in self._kinds[kind].names():
                standing = standings.pop(f"{kind}/{name}", None)
                news = UpdateNews(kind, name) if standing is None else standing.news
                running = self._kinds[kind].running(name, standing)
                found.append(UpdateNews(kind, name, news.counter, news.wanted, running, news.state, news.reason))
        return found + [standing.news for standing in standings.values()]

    def report(self) -> dict[str, object]:
        """What the health page shows of them."""
        return {
            "news": [asdict(news) for news in self.news],
            "refused": self.refused,
            "refusal": self.refusal,
        }

    async def run(self) -> None:
        """Settles what an earlier run has begun, and takes in what comes, until it is cancelled or a restart is due."""
        try:
            self._ledger.load()
        except UpdateError as exc:
            self._refuse(str(exc))
            return
        if not await self._settle_all():
            return
        while True:
            self._news.clear()
            self._tell_news()
            self._read_inbox()
            if (accepted := self._due()) is not None:
                if not await self._work(accepted):
                    return
                continue
            try:
                async with asyncio.timeout(self._retries.until_due_s(self._wanted, time.monotonic())):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _settle_all(self) -> bool:
        """What earlier runs have begun comes to its end; False when a restart has to bring that."""
        for kind, carried_out_by in self._kinds.items():
            for name in carried_out_by.names():
                standing = self._ledger.standings.get(f"{kind}/{name}")
                try:
                    outcome = await carried_out_by.settle(name, standing)
                    if outcome is None:
                        continue
                    if outcome.state is UpdateState.TRYING:
                        return False
                    # What was begun by hand has no standing, and nothing to be noted.
                    if standing is not None and not standing.state.is_final:
                        self._note(standing, outcome)
                    await carried_out_by.settled(name)
                except UpdateError as exc:
                    logger.error("%s/%s: %s", kind, name, exc)  # noqa: TRY400 - an operator has no use for the traceback
        return True

    def _read_inbox(self) -> None:
        while self._inbox:
            topic, payload = self._inbox.popitem()
            if not payload:
                self._take_back(topic)
                continue
            accepted = self._accepted(topic, payload)
            if accepted is None:
                continue
            before = self._wanted.get(accepted.desired.key)
            if before is None or before.desired.counter < accepted.desired.counter:
                self._wanted[accepted.desired.key] = accepted
                self._retries.forget(accepted.desired.key)

    def _accepted(self, topic: str, payload: bytes) -> Accepted | None:
        """What is to be worked on; None for what is known, or refused. Retained, the same comes at each connection."""
        digest = hashlib.sha256(payload).hexdigest()
        if digest in self._known_refused:
            return None
        node = self._host.config.group, self._host.config.node
        try:
            keys = self._keys()
            if len(self._known_refused) < _MAX_WAITING:
                self._known_refused.add(digest)
            accepted = accept(payload, keys, node, self._ledger.standings)
        except UpdateError as exc:
            self._refuse(f"{topic!r}: {exc}")
            return None
        self._known_refused.discard(digest)
        return accepted

    def _take_back(self, topic: str) -> None:
        """The operator has deleted a desired state: what is not yet tried waits, and may be wanted again later."""
        key = "/".join(topic.split("/")[-2:])
        node = topic.split("/")[3] if topic.count("/") > 3 else ""  # noqa: PLR2004 - headwater/GROUP/desired/NODE/...
        accepted = self._wanted.get(key)
        if accepted is not None and accepted.desired.target.node == node:
            del self._wanted[key]
            self._wait(accepted, "it was taken back")

    def _due(self) -> Accepted | None:
        now_s = time.monotonic()
        return next((each for key, each in self._wanted.items() if self._retries.is_due(key, now_s)), None)

    async def _work(self, accepted: Accepted) -> bool:
        """Goes on with one as far as it goes; False when a restart is due."""
        desired = accepted.desired
        try:
            self._check(desired)
            kind = self._kinds[desired.kind]
            self._progress(accepted, UpdateState.FETCHING)
            content = await self._fetcher.fetch(desired, lambda: self._is_wanted(accepted), self._check_room)
            outcome = await kind.apply(desired, content, lambda: self._progress(accepted, UpdateState.TRYING))
            if outcome.state is UpdateState.TRYING:
                return False
            self._end(accepted, outcome.state, outcome.reason)
        except (NotNowError, OSError) as exc:
            if self._is_wanted(accepted):
                self._wait(accepted, str(exc))
            return True
        except RolledBackError as exc:
            self._end(accepted, UpdateState.ROLLED_BACK, str(exc))
        except UpdateError as exc:
            self._end(accepted, UpdateState.REFUSED, str(exc))
        await self._clear_up(desired)
        return True

    async def _clear_up(self, desired: Desired) -> None:
        try:
            await self._kinds[desired.kind].settled(desired.name)
            wanted = [each.desired for each in self._wanted.values()]
            await asyncio.to_thread(self._staging.prune, wanted)
        except (UpdateError, OSError) as exc:
            logger.warning("%s: is not cleared up: %s", desired.title, exc)

    def _check(self, desired: Desired) -> None:
        """Raises UpdateError for one that is not to be fetched."""
        check_expiry(desired, self._utc_ms())
        if (takes := desired.size + desired.unpacked_bytes) > self._config.max_bytes:
            raise UpdateError(f"it takes {takes} bytes of disk, update.max_bytes is {self._config.max_bytes}")
        self._kinds[desired.kind].check(desired)

    async def _check_room(self, size_bytes: int) -> None:
        """The readings' spool comes first: what it may yet need is not ours."""
        if await self._host.room_bytes() < size_bytes:
            raise NotNowError(f"the disk has no room for {size_bytes} bytes beside what the spool may yet need")

    def _is_wanted(self, accepted: Accepted) -> bool:
        if self._inbox:
            self._read_inbox()
        return self._wanted.get(accepted.desired.key) is accepted

    # What is noted on the disk, and told.

    def _progress(self, accepted: Accepted, state: UpdateState, reason: str | None = None) -> None:
        """Notes how far one is, on the disk; raises UpdateError where that is not to be had."""
        desired = accepted.desired
        before = self._ledger.standings.get(desired.key)
        running = (None, None) if before is None else (before.running, before.running_sha256)
        name = desired.kind, desired.name, desired.counter, accepted.digest, desired.version
        standing = Standing(*name, state, reason, *running, desired.sha256).ended(state, reason)
        if standing != before:
            self._ledger.put(standing)
            self._log(standing)
        self._tell_news()

    def _note(self, standing: Standing, outcome: Outcome) -> None:
        """Notes what came of one that an earlier run has begun."""
        settled = standing.ended(outcome.state, outcome.reason)
        self._ledger.put(settled)
        self._log(settled)
        self._tell_news()

    def _wait(self, accepted: Accepted, reason: str) -> None:
        """It is tried again in a while, if it is wanted then."""
        self._retries.put_off(accepted.desired.key, time.monotonic())
        try:
            self._progress(accepted, UpdateState.WAITING, reason)
        except UpdateError as exc:
            logger.warning("%s: %s", accepted.desired.title, exc)

    def _end(self, accepted: Accepted, state: UpdateState, reason: str | None) -> None:
        self._wanted.pop(accepted.desired.key, None)
        self._retries.forget(accepted.desired.key)
        try:
            self._progress(accepted, state, reason)
        except UpdateError as exc:
            logger.error("%s: is %s, which is not noted: %s", accepted.desired.title, state, exc)  # noqa: TRY400 - as above

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        self.refusal = reason
        if self._seldom.speaks(time.monotonic()):
            also = f" (and {self._seldom.held_back} before it)" if self._seldom.held_back else ""
            logger.warning("a desired state is not taken%s: %s", also, reason)
            self._tell([(REFUSED_METRIC, reason)])

    def _log(self, standing: Standing) -> None:
        what = f"{standing.kind}/{standing.name} {standing.wanted}"
        if standing.state in {UpdateState.REFUSED, UpdateState.ROLLED_BACK}:
            logger.warning("update %s is %s: %s", what, standing.state.value.replace("_", " "), standing.reason)
        elif standing.state is UpdateState.WAITING:
            logger.info("update %s waits: %s", what, standing.reason)
        else:
            logger.info("update %s: %s", what, standing.state.value)

    def _tell_news(self) -> None:
        """Tells what has changed since it was told."""
        told = {update_metric(news.kind, news.name): news.to_text() for news in self.news}
        if changed := [(name, text) for name, text in told.items() if self._told.get(name) != text]:
            self._tell(changed)
        self._told = told
