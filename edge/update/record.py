"""What is noted of updates, on the disk before anything comes of it, and what is told of them."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from contract.update_news import UpdateNews, UpdateState, update_metric
from edge.update.ledger import Standing
from edge.update.telling import REFUSED_METRIC
from edge.uplink.seldom import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge.update.acceptance import Accepted
    from edge.update.kinds import Outcome, UpdateKind
    from edge.update.ledger import Ledger

logger = logging.getLogger(__name__)


class Record:
    """How it stands with everything that there is, in `ledger`; `tell` gets what is new of it."""

    def __init__(
        self,
        ledger: Ledger,
        kinds: Mapping[str, UpdateKind],
        tell: Callable[[Sequence[tuple[str, str]]], None],
    ) -> None:
        self._ledger = ledger
        self._kinds = kinds
        self._tell = tell
        self._told: dict[str, str] = {}
        self._refused = 0
        self._refusal: str | None = None
        self._seldom = Seldom()

    def load(self) -> None:
        """Reads what earlier runs have noted; raises as `Ledger.load`."""
        self._ledger.load()

    def standing(self, kind: str, name: str) -> Standing | None:
        """How it stands with one; None: nothing was ever taken."""
        return self._ledger.standings.get(f"{kind}/{name}")

    def progress(self, accepted: Accepted, state: UpdateState, reason: str | None = None) -> None:
        """Notes how far one is; raises UpdateError where the disk does not take it."""
        desired = accepted.desired
        before = self.standing(desired.kind, desired.name)
        running = (None, None) if before is None else (before.running, before.running_sha256)
        name = desired.kind, desired.name, desired.counter, accepted.digest, desired.version
        standing = Standing(*name, state, reason, *running, desired.sha256).ended(state, reason)
        if standing != before:
            self._put(standing)
        self.tell()

    def settle(self, standing: Standing, outcome: Outcome) -> None:
        """Notes what came of one that an earlier run has begun; raises UpdateError."""
        self._put(standing.ended(outcome.state, outcome.reason))
        self.tell()

    def refuse(self, reason: str) -> None:
        """A desired state is not taken at all: it may be anybody's, and leaves no trace but this."""
        self._refused += 1
        self._refusal = reason
        if self._seldom.speaks(time.monotonic()):
            also = f" (and {self._seldom.held_back} before it)" if self._seldom.held_back else ""
            logger.warning("a desired state is not taken%s: %s", also, reason)
            self._tell([(REFUSED_METRIC, reason)])

    def tell(self) -> None:
        """Tells what has changed since it was told."""
        told = {update_metric(news.kind, news.name): news.to_text() for news in self._news()}
        if changed := [(name, text) for name, text in told.items() if self._told.get(name) != text]:
            self._tell(changed)
        self._told = told

    def forget(self) -> None:
        """Births were sent: all is to be told again."""
        self._told.clear()

    def report(self) -> dict[str, object]:
        """What the health page shows."""
        return {
            "news": [asdict(news) for news in self._news()],
            "refused": self._refused,
            "refusal": self._refusal,
        }

    def _news(self) -> list[UpdateNews]:
        standings = dict(self._ledger.standings)
        found = []
        for kind in self._kinds:
            for name in self._kinds[kind].names():
                standing = standings.pop(f"{kind}/{name}", None)
                news = UpdateNews(kind, name) if standing is None else standing.news
                running = self._kinds[kind].running(name, standing)
                found.append(UpdateNews(kind, name, news.counter, news.wanted, running, news.state, news.reason))
        return found + [standing.news for standing in standings.values()]

    def _put(self, standing: Standing) -> None:
        self._ledger.put(standing)
        what = f"{standing.kind}/{standing.name} {standing.wanted}"
        if standing.state in {UpdateState.REFUSED, UpdateState.ROLLED_BACK}:
            logger.warning("update %s is %s: %s", what, standing.state.value.replace("_", " "), standing.reason)
        elif standing.state is UpdateState.WAITING:
            logger.info("update %s waits: %s", what, standing.reason)
        else:
            logger.info("update %s: %s", what, standing.state.value)
