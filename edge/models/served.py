"""One model that is served: which version, how it fares, and what it tells."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from edge.models.feed import Feed
from edge.models.telling import OF_EVERY_MODEL, STATE, Seldom, Teller, metrics_of
from edge.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.manifest import Manifest
    from edge.inference.settings import ModelSettings
    from edge.models.child import Chosen, Outcome
    from edge.models.config import ModelConfig
    from edge.models.package import Package, Stamp
    from edge.models.ring import Ring
    from edge.models.store import Store
    from edge.reading import MetricInfo
    from edge.reporting import ReportRule

STRIKES: Final = 3
_STRIKES_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A version that was tried and found good."""

    package: Package
    settings: ModelSettings
    chosen: Chosen

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.package.manifest.name} {self.package.manifest.version}"


@dataclass(frozen=True, slots=True)
class ModelDevice:
    """The device that a model's results are of, as the intake wants it."""

    name: str
    report: tuple[ReportRule, ...]
    infos: tuple[MetricInfo, ...]

    def metrics(self) -> Sequence[MetricInfo]:
        """What it may tell."""
        return self.infos


@dataclass(slots=True)
class ModelStatus:
    """What is known of a model in this run."""

    state: str = "starting"
    reason: str | None = None
    refused: str | None = None
    results: int = 0
    no_window: int = 0
    failed: int = 0
    swaps: int = 0
    last_us: float | None = None
    last_end_ms: int | None = None
    last: dict[str, float] = field(default_factory=dict)


class Served:
    """One model of the configuration; `current` runs, `successor` waits for its turn."""

    def __init__(self, config: ModelConfig, store: Store, foreseen: Manifest | None) -> None:
        self.config = config
        self.store = store
        self.status = ModelStatus()
        self.current: Admitted | None = None
        self.successor: Admitted | None = None
        self.stamp: Stamp | None = None
        self.retry_s = math.inf
        self.quarantined: dict[str, str] = {}
        self.resting_s: dict[str, float] = {}
        self.is_proven = False
        self._feed = Feed(foreseen, config) if foreseen else None
        self._teller = Teller(foreseen) if foreseen else None
        self._seldom = Seldom()
        self._strikes: deque[float] = deque(maxlen=STRIKES)
        self._manifest = foreseen

    @property
    def feed(self) -> Feed:
        """What it is fed with; there is one once a version was switched to."""
        assert self._feed is not None
        return self._feed

    @property
    def rings(self) -> list[tuple[tuple[str, str], Ring]]:
        """Where the readings of each source and metric go."""
        return [] if self._feed is None else self._feed.rings

    @property
    def device(self) -> ModelDevice:
        """What its births say."""
        infos = OF_EVERY_MODEL if self._manifest is None else metrics_of(self._manifest)
        return ModelDevice(self.config.name, self.config.report, tuple(infos))

    def switch(self) -> Admitted | None:
        """Lets the successor take over, with all readings and windows that are known; gives the one before."""
        before, self.current = self.current, self.successor
        self.successor = None
        assert self.current is not None
        self._manifest = self.current.package.manifest
        feed = Feed(self._manifest, self.config)
        if self._feed is not None:
            feed.adopt(self._feed)
        self._feed, self.is_proven = feed, False
        self._teller = Teller(self._manifest, self._teller)
        self._strikes.clear()
        self.status.swaps += before is not None
        self.status.state, self.status.reason = "waiting", None
        return before

    def take_outcome(self, outcome: Outcome, end_ms: int, now_s: float) -> list[Reading]:
        """What is told of a window that was run."""
        assert self._teller is not None
        if outcome.failed is not None:
            return self.fail(outcome.failed, end_ms, now_s)
        if outcome.no_window is not None:
            self.status.no_window += 1
            return self._without_result("waiting", outcome.no_window, end_ms)
        self.status.results += 1
        self.status.last_us, self.status.last_end_ms = outcome.us, end_ms
        readings = self._teller.result(outcome.numbers, end_ms)
        self.status.last = {reading.metric: reading.value for reading in readings if isinstance(reading.value, float)}
        return readings + self._become("ok", None, end_ms)

    def fail(self, reason: str, at_ms: int, now_s: float) -> list[Reading]:
        """A window failed by the model's own fault: a strike, and with the last of them it is `is_struck_out`."""
        self.status.failed += 1
        self._strikes.append(now_s)
        return self._without_result("failing", reason, at_ms)

    @property
    def is_struck_out(self) -> bool:
        """Whether it has failed too often."""
        return len(self._strikes) == STRIKES and self._strikes[-1] - self._strikes[0] < _STRIKES_S

    def give_up(self, state: str, reason: str, at_ms: int) -> list[Reading]:
        """Serves the present version no longer."""
        self.current = None
        self._strikes.clear()
        return self._without_result(state, reason, at_ms)

    def refuse(self, reason: str, at_ms: int) -> list[Reading]:
        """A version was refused; one that runs goes on."""
        self.status.refused = reason
        if self.current is not None or self.successor is not None:
            return []
        return self._become("refused", reason, at_ms)

    def _without_result(self, state: str, reason: str, at_ms: int) -> list[Reading]:
        # Once, as long as there is none; and not for the first windows, when there was none yet.
        missing = self._teller.no_result(at_ms) if self._teller and self.status.state == "ok" else []
        return missing + self._become(state, reason, at_ms)

    def _become(self, state: str, reason: str | None, at_ms: int) -> list[Reading]:
        self.status.state, self.status.reason = state, reason
        return [Reading(STATE, DataType.STRING, state, at_ms)] if self._seldom.is_due(STATE, state, at_ms) else []
