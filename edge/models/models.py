"""Models on the device: fed by every poll, run in a process of their own, their results kept like any other reading.

A version that is put into a model's directory is first tried in a process of its own. One that is refused changes
nothing; one that fails three times within an hour is quarantined, and the last good one, of which there is a copy,
returns.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from contract.sparkplug import Quality
from edge.errors import ModelError
from edge.models.admission import Admission
from edge.models.foreseen import foresee
from edge.models.package import read_package
from edge.models.report import report_models
from edge.models.served import Served
from edge.models.serving import Serving
from edge.models.store import Store
from edge.polling import Poll

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from contract.manifest import Manifest
    from edge.intake import Intake
    from edge.models.config import InferenceConfig, ModelConfig
    from edge.models.package import Package
    from edge.models.ring import Ring
    from edge.reading import MetricInfo, Reading
    from edge.sources.base import Clock

logger = logging.getLogger(__name__)

# A reading that is dated further ahead would push all others out of its window.
_AHEAD_MS: Final = 2000


class Models:
    """Serves models; their results are polls for `keep`, of devices that are open in `intake`.

    `metrics_of` gives what a source may tell, and `births_changed` is called when a device's births are others.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        config: InferenceConfig,
        state_dir: Path,
        now_ms: Clock,
        *,
        intake: Intake,
        keep: Callable[[Poll], None],
        metrics_of: Callable[[str], Sequence[MetricInfo] | None],
        births_changed: Callable[[], None],
    ) -> None:
        self._config = config
        self._state_dir = state_dir / "models"
        self._now_ms = now_ms
        self._intake = intake
        self._keep = keep
        self._metrics_of = metrics_of
        self._births_changed = births_changed
        self._served: dict[str, Served] = {}
        self._routes: dict[str, dict[str, list[Ring]]] = {}
        self._admission = Admission(config, metrics_of)
        self._serving = Serving(self, config, now_ms)
        self._to_look = asyncio.Event()

    @property
    def served(self) -> Mapping[str, Served]:
        """The models by name."""
        return self._served

    @property
    def metrics(self) -> Mapping[str, Sequence[MetricInfo]]:
        """What each model's device may tell."""
        return {name: served.device.infos for name, served in self._served.items()}

    def change(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these from now on; those that are unchanged go on undisturbed."""
        wanted = {config.name: config for config in configs}
        for name in [name for name, served in self._served.items() if served.config != wanted.get(name)]:
            self._intake.close(name)
            del self._served[name]
        for name, config in wanted.items():
            if name not in self._served:
                store = Store(self._state_dir / name, self._config.trusted_keys)
                self._served[name] = Served(config, store, self._foreseen(config))
                self._intake.open(self._served[name].device)
        self._served = {name: self._served[name] for name in wanted}
        self._reroute()
        self._to_look.set()

    def close(self) -> None:
        """Nothing more comes of them: what was held back of their results is kept."""
        self.change(())

    def take(self, poll: Poll) -> None:
        """Feeds the models; a poll of which nobody wants anything costs one look-up."""
        routes = self._routes.get(poll.source)
        if routes is None:
            return
        latest_ms = poll.finished_ms + _AHEAD_MS
        for reading in poll.readings:
            if (rings := routes.get(reading.metric)) is not None and reading.sampled_at_ms <= latest_ms:
                for ring in rings:
                    ring.put(reading.sampled_at_ms, reading.value, good=reading.quality == Quality.GOOD)

    async def run(self) -> None:
        """Serves until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="models' directories")
            group.create_task(self._serving.run(), name="models' process")

    def report(self) -> dict[str, object]:
        """What the health page shows of them."""
        return report_models(self._served, self._serving)

    async def _watch(self) -> None:
        """Looks at every directory, again and again."""
        while True:
            self._to_look.clear()
            for served in list(self._served.values()):
                await self._look_at(served)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.watch_s if self._served else None):
                    await self._to_look.wait()

    async def _look_at(self, served: Served) -> None:
        try:
            await self._admission.look(served)
        except ModelError as exc:
            if str(exc) != served.status.refused:
                logger.warning("%s: refused: %s", served.config.name, exc)
            now_ms = self._now_ms()
            self.tell(served, served.refuse(str(exc), now_ms), now_ms)
        await self._admission.fall_back(served)
        if served.successor is not None:
            self._serving.wake()

    async def try_out(self, name: str, directory: Path) -> Package:
        """What lies in a directory, tried for one of the models; raises ModelError."""
        if (served := self._served.get(name)) is None:
            raise ModelError(f"there is no model {name} in this node's configuration")
        package = await asyncio.to_thread(read_package, directory, self._config.trusted_keys)
        await self._admission.try_out(served.config, package)
        return package

    def look_soon(self) -> None:
        """Something has changed in a directory."""
        self._to_look.set()

    # What serving them comes back to.

    def tell(self, served: Served, readings: Sequence[Reading], at_ms: int) -> None:
        """Keeps readings of a model, unless it is no longer of the configuration."""
        if readings and self._served.get(served.config.name) is served:
            self._keep(Poll(served.config.name, readings, at_ms, self._now_ms()))

    async def switch(self, served: Served) -> None:
        """Lets a model's successor take over, with all that is known for its windows."""
        name, device = served.config.name, served.device
        before = served.switch()
        assert served.current is not None
        times = ", ".join(f"{form} {us:.0f} us" for form, us in served.current.chosen.us.items())
        logger.info("%s: %s is served as %s (%s)", name, served.current.title, served.current.chosen.form, times)
        self._reroute()
        if served.device != device and self._served.get(name) is served:
            self._intake.close(name)
            self._intake.open(served.device)
            self._births_changed()
        wanted = (served.current.package, before.package if before else None)
        await asyncio.to_thread(served.store.prune, *wanted)

    async def prove(self, served: Served) -> None:
        """A version has given its first result: from now on it is what comes back when a later one fails."""
        if served.current is not None:
            await asyncio.to_thread(served.store.prove, served.current.package)

    async def abandon(self, served: Served, package: Package) -> None:
        """A version is served no longer: another one is looked for."""
        served.stamp = None
        await asyncio.to_thread(served.store.discard, package)
        self._to_look.set()

    def _reroute(self) -> None:
        self._routes = {}
        for served in self._served.values():
            for (source, metric), ring in served.rings:
                self._routes.setdefault(source, {}).setdefault(metric, []).append(ring)

    def _foreseen(self, config: ModelConfig) -> Manifest | None:
        """What is in its directory, untried: the births say it at once, and readings gather while it is tried."""
        with suppress(ModelError):
            return foresee(config, self._config.trusted_keys, self._metrics_of).manifest
        return None
