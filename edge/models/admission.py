"""How a version comes to be served: read, held against the configuration, tried in a process of its own, copied."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Final

from edge.errors import ModelError
from edge.models.child import started
from edge.models.package import check_inputs, read_package, settings_of, stamp_of
from edge.models.served import Admitted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.models.child import Chosen
    from edge.models.config import InferenceConfig, ModelConfig
    from edge.models.package import Package
    from edge.models.served import Served
    from edge.reading import MetricInfo

logger = logging.getLogger(__name__)

# A version that was refused may have been tried at a bad moment.
_RETRY_S: Final = 300.0


class Admission:
    """Looks at models' directories, and makes what is new there their successor once it has been tried."""

    def __init__(self, config: InferenceConfig, metrics_of: Callable[[str], Sequence[MetricInfo] | None]) -> None:
        self._config = config
        self._metrics_of = metrics_of

    async def look(self, served: Served) -> None:
        """Takes in what has changed; raises ModelError where it is refused, and does not try it again for a while."""
        stamp = await asyncio.to_thread(stamp_of, served.config.directory)
        if stamp == served.stamp and time.monotonic() < served.retry_s:
            return
        served.stamp, served.retry_s = stamp, math.inf
        try:
            package = await asyncio.to_thread(read_package, served.config.directory, self._config.trusted_keys)
            is_served = served.current is not None and served.current.package.digest == package.digest
            if not is_served and package.digest not in served.quarantined:
                served.successor = await self._admit(served, package)
            served.status.refused = None
        except ModelError:
            served.retry_s = time.monotonic() + _RETRY_S
            raise

    async def fall_back(self, served: Served) -> None:
        """Where nothing can be served, makes the newest that has served well its successor; there may be none."""
        if served.current is not None or served.successor is not None:
            return
        for package in await asyncio.to_thread(served.store.proven):
            if package.digest in served.quarantined or time.monotonic() < served.resting_s.get(package.digest, 0):
                continue
            try:
                served.successor = await self._admit(served, package)
            except ModelError as exc:
                logger.warning("%s: %s: cannot come back: %s", served.config.name, package.manifest.version, exc)
                # Kept: a busy device's first minute is no reason to lose the last good one.
                served.resting_s[package.digest] = time.monotonic() + _RETRY_S
            else:
                return

    async def try_out(self, config: ModelConfig, package: Package) -> Chosen:
        """Runs a package in a process of its own; gives the form that is fastest here. Raises ModelError."""
        check_inputs(package.manifest, config, self._metrics_of)
        async with started(self._config) as trial:
            return await trial.load(settings_of(package, config))

    async def _admit(self, served: Served, package: Package) -> Admitted:
        """The package, tried. Raises ModelError."""
        config = served.config
        chosen = await self.try_out(config, package)
        try:
            kept = await asyncio.to_thread(served.store.keep, package)
        except ModelError as exc:
            logger.warning("%s: %s: it is run from where it lies", config.name, exc)
            kept = package
        return Admitted(kept, settings_of(kept, config, chosen.form), chosen)
