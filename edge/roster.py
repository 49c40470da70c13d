"""The sources that are polled: which ones they are can change while the others go on undisturbed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.errors import SourceError
from edge.polling import Poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from contract.datatypes import Value
    from edge.intake import Intake
    from edge.polling import Poll
    from edge.reading import MetricInfo, Reading
    from edge.sources.base import Clock, SourceConfig

logger = logging.getLogger(__name__)

# Beyond its time-outs: for a source that ends only when it is cancelled, or not even then.
_ENDING_S: Final = 5.0


@dataclass(slots=True)
class _Polled:
    poller: Poller
    task: asyncio.Task[None] | None = None


class Roster:
    """Polls each of the sources, from `running` on, for `keep`; every name in `pollers` is open in `intake`."""

    def __init__(
        self,
        sources: Sequence[SourceConfig],
        keep: Callable[[Poll], None],
        intake: Intake,
        now_ms: Clock,
        *,
        jitter_s: float = 0.0,
    ) -> None:
        self._keep = keep
        self._intake = intake
        self._now_ms = now_ms
        self._jitter_s = jitter_s
        self._is_running = False
        self._hurry = asyncio.Event()
        self._polled: dict[str, _Polled] = {}
        for source in sources:
            self._admit(source)

    @property
    def pollers(self) -> Mapping[str, Poller]:
        """The poller of each source, in the order of the configuration."""
        return {name: polled.poller for name, polled in self._polled.items()}

    def metrics_of(self, name: str) -> Sequence[MetricInfo] | None:
        """The metrics of a source, None where there is no such source."""
        polled = self._polled.get(name)
        return None if polled is None else polled.poller.source.metrics()

    async def write(self, name: str, metric: str, value: Value) -> Reading:
        """Sets a metric of a source and reads it back; raises SourceError or TimeoutError."""
        if (polled := self._polled.get(name)) is None:
            raise SourceError(f"there is no source {name} any more")
        return await polled.poller.write(metric, value)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Polls while the context lasts; `end` before its end is the orderly way."""
        self._is_running = True
        for polled in self._polled.values():
            self._start(polled)
        try:
            yield
        finally:
            self._is_running = False
            tasks = [polled.task for polled in self._polled.values() if polled.task is not None]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_ENDING_S)

    async def change(self, sources: Sequence[SourceConfig]) -> None:
        """Polls these from now on; returns when those that go have ended, each after its poll in flight."""
        wanted = {source.name: source for source in sources}
        gone = [name for name in self._polled if name not in wanted]
        new = [source for name, source in wanted.items() if name not in self._polled]
        changed = [source for name, source in wanted.items() if name in self._polled and self._is_changed(source)]
        async with asyncio.TaskGroup() as group:
            for source in changed:
                group.create_task(self._replace([source.name], [source]))
            # One that has only been renamed is on the line of one that goes.
            group.create_task(self._replace(gone, new))
        self._polled = {name: self._polled[name] for name in wanted}

    async def end(self) -> None:
        """Ends every source after its poll in flight, and keeps what was held back of it."""
        await self.change(())

    def hurry(self, within_s: float) -> None:
        """Polls in flight are waited for no longer than so many seconds from now, by a `change` in progress too."""
        asyncio.get_running_loop().call_later(within_s, self._hurry.set)

    def _is_changed(self, source: SourceConfig) -> bool:
        return self._polled[source.name].poller.source != source

    async def _replace(self, gone: Sequence[str], new: Sequence[SourceConfig]) -> None:
        """Ends some, and then begins others."""
        async with asyncio.TaskGroup() as group:
            for name in gone:
                group.create_task(self._dismiss(name))
        for source in new:
            self._start(self._admit(source))

    async def _dismiss(self, name: str) -> None:
        await self._ended(self._polled[name])
        self._intake.close(name)
        del self._polled[name]

    def _admit(self, source: SourceConfig) -> _Polled:
        self._intake.open(source)
        poller = Poller(source, self._keep, self._now_ms, jitter_s=self._jitter_s)
        self._polled[source.name] = _Polled(poller)
        return self._polled[source.name]

    def _start(self, polled: _Polled) -> None:
        if self._is_running:
            polled.task = asyncio.create_task(polled.poller.run(), name=f"poll {polled.poller.source.name}")

    async def _ended(self, polled: _Polled) -> None:
        """Stops a poller; one that does not stop in its time is cancelled, and one that resists is left behind."""
        if polled.task is None:
            return
        source = polled.poller.source
        polled.poller.stop()
        hurry = asyncio.create_task(self._hurry.wait(), name="hurry")
        # A poll in flight, and the closing.
        timeout_s = 2 * source.timeout_s + _ENDING_S
        await asyncio.wait([polled.task, hurry], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not polled.task.done():
            polled.task.cancel()
            await asyncio.wait([polled.task], timeout=_ENDING_S)
        if not polled.task.done():
            logger.error("%s: does not end, and is left behind", source.name, extra={"source": source.name})
