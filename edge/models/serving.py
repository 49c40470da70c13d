"""The running of windows: one process for all models, started again when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from edge.errors import ModelError
from edge.models.child import LostProcessError, WindowToRun, started
from edge.schedule import backoff_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.models.child import ModelProcess, Outcome
    from edge.models.config import InferenceConfig
    from edge.models.package import Package
    from edge.models.served import Served
    from edge.reading import Reading
    from edge.sources.base import Clock

logger = logging.getLogger(__name__)

_LONGEST_SLEEP_S: Final = 1.0
_SHORTEST_SLEEP_S: Final = 0.01
_MS_PER_S: Final = 1000
_BACKOFF_BASE_S: Final = 0.25


class Owner(Protocol):
    """Whose models are served, and who is told what becomes of them."""

    @property
    def served(self) -> Mapping[str, Served]:
        """The models by name; they may change while others are served."""

    def tell(self, served: Served, readings: Sequence[Reading], at_ms: int) -> None:
        """Readings of a model."""

    async def switch(self, served: Served) -> None:
        """Lets a model's successor take over."""

    async def prove(self, served: Served) -> None:
        """A version has given its first result."""

    async def abandon(self, served: Served, package: Package) -> None:
        """A version is served no longer."""


class Serving:
    """Runs what is due; `wake` when there is a successor or a model less."""

    def __init__(self, owner: Owner, config: InferenceConfig, now_ms: Clock) -> None:
        self.process: ModelProcess | None = None
        self.losses = 0
        self._owner = owner
        self._config = config
        self._now_ms = now_ms
        self._woken = asyncio.Event()
        self._losses_in_a_row = 0
        self._asked: Served | None = None
        self._asked_twice: tuple[Served, int] | None = None
        self._loaded: dict[str, str] = {}

    def wake(self) -> None:
        """Something has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Runs windows in one process after another, each until it is lost; without a model there is none."""
        while True:
            self._woken.clear()
            if not any(served.current or served.successor for served in self._owner.served.values()):
                await self._woken.wait()
            self._asked, self._loaded = None, {}
            try:
                async with started(self._config) as self.process:
                    await self._serve(self.process)
            except LostProcessError as exc:
                await self._lose(exc)
                luck = random.random()  # noqa: S311 - spreads load, keeps no secret
                await asyncio.sleep(backoff_s(self._losses_in_a_row, luck, base_s=_BACKOFF_BASE_S))
            finally:
                self.process = None

    async def _serve(self, process: ModelProcess) -> None:
        """Returns when there is nothing more to serve; raises LostProcessError."""
        while True:
            self._asked = None
            process.check()
            self._woken.clear()
            # Between two windows, so that none is lost.
            for served in [served for served in self._owner.served.values() if served.successor is not None]:
                await self._owner.switch(served)
            running = [served for served in self._owner.served.values() if served.current is not None]
            if not running:
                return
            self._drop_all_but(process, running)
            for served in running:
                await self._prepare(process, served)
            await self._run_waiting(process, running)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_due_s(running)):
                    await self._woken.wait()

    async def _prepare(self, process: ModelProcess, served: Served) -> None:
        """Looks what is due, and loads the model where it is not."""
        assert served.current is not None
        served.feed.look(self._now_ms())
        settings = served.current.settings
        if not served.feed.waiting or self._loaded.get(served.config.name) == settings.key:
            return
        self._asked = served
        try:
            await process.load(settings)
        except LostProcessError:
            raise
        except ModelError as exc:
            # It was well when it was tried: its files have changed since. What lies in its directory is tried again.
            logger.warning("%s: %s", served.config.name, exc)
            await self._give_up(served, "refused", str(exc))
        else:
            self._loaded[served.config.name] = settings.key

    async def _run_waiting(self, process: ModelProcess, running: Sequence[Served]) -> None:
        """Runs all windows that wait, in one go; each is off the list once it is answered."""
        todo, windows = [], []
        for served in running:
            if served.current is not None:
                todo += [(served, end_ms) for end_ms in served.feed.waiting]
                settings = served.current.settings
                windows += [
                    WindowToRun(settings, end_ms, *served.feed.window(end_ms)) for end_ms in served.feed.waiting
                ]
        outcomes = process.run(windows)
        for served, end_ms in todo:
            self._asked = served
            outcome = await anext(outcomes)
            served.feed.done(end_ms)
            if served.current is not None:
                await self._take(served, outcome, end_ms)

    async def _take(self, served: Served, outcome: Outcome, end_ms: int) -> None:
        was = served.status.state
        self._owner.tell(served, served.take_outcome(outcome, end_ms, time.monotonic()), end_ms)
        if outcome.failed is not None:
            if was != "failing":
                logger.warning("%s: %s", served.config.name, outcome.failed)
            await self._strike_out(served, outcome.failed)
        elif served.status.state == "ok":
            self._losses_in_a_row = 0
            # Not each time that a window had too little in it: that may be every other one.
            if was == "failing" or not served.is_proven:
                logger.info("%s: gives results", served.config.name)
            if not served.is_proven:
                served.is_proven = True
                await self._owner.prove(served)

    async def _lose(self, loss: LostProcessError) -> None:
        """The process has gone: the model that it was at is to blame. Its window is tried once more."""
        self.losses += 1
        self._losses_in_a_row += 1
        served = self._asked
        if served is None or served.current is None:
            logger.warning("the models' process: %s", loss)
            return
        logger.warning("%s: %s", served.config.name, loss)
        window = (served, served.feed.waiting[0]) if served.feed.waiting else None
        if window is not None and window == self._asked_twice:
            served.feed.done(window[1])
        self._asked_twice = window
        now_ms = self._now_ms()
        self._owner.tell(served, served.fail(str(loss), now_ms, time.monotonic()), now_ms)
        await self._strike_out(served, str(loss))

    async def _strike_out(self, served: Served, reason: str) -> None:
        """A model that has failed too often is quarantined; one that was good before may come back."""
        if served.is_struck_out and served.current is not None:
            title = served.current.title
            served.quarantined[served.current.package.digest] = f"{title}: {reason}"
            logger.error("%s: %s is quarantined until there is another version: %s", served.config.name, title, reason)
            await self._give_up(served, "quarantined", f"{title}: {reason}")

    async def _give_up(self, served: Served, state: str, reason: str) -> None:
        assert served.current is not None
        package, now_ms = served.current.package, self._now_ms()
        self._owner.tell(served, served.give_up(state, reason, now_ms), now_ms)
        await self._owner.abandon(served, package)

    def _drop_all_but(self, process: ModelProcess, running: Sequence[Served]) -> None:
        keys = {served.config.name: served.current.settings.key for served in running if served.current}
        for name, key in list(self._loaded.items()):
            if keys.get(name) != key:
                process.drop(key)
                del self._loaded[name]

    def _until_due_s(self, running: Sequence[Served]) -> float:
        now_ms = self._now_ms()
        due_s = min(served.feed.next_look_ms(now_ms) for served in running) / _MS_PER_S
        return min(max(due_s, _SHORTEST_SLEEP_S), _LONGEST_SLEEP_S)
