"""The trained model of a camera's scene as the agent sees it: tried before it is served, given up where it fails.

The camera's own process runs it. A version is first tried in a process of its own; one that is refused changes
nothing. A failure, or the process's death by a crash or by a picture that took too long, is a strike; after three
within an hour the version is quarantined, and the last one that worked returns, else the baseline.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from contract.card import MANIFEST_FILE
from contract.datatypes import DataType
from contract.scene import FLOOR, SceneManifest, parse_scene, span_of
from edge.errors import ModelError
from edge.inference.settings import SceneSettings
from edge.lane import Lane
from edge.models.child import started
from edge.models.config import InferenceConfig
from edge.models.package import Package, forms_of, read_package_of, stamp_of
from edge.models.store import Store
from edge.models.telling import Seldom
from edge.reading import MetricInfo, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edge.sources.base import Place

logger = logging.getLogger(__name__)

SCENES: Final = "scenes"
VERSION: Final = "scene_model/version"
STATE: Final = "scene_model/state"
NONE: Final = "none"

_RETRY_S: Final = 300.0
_STRIKES: Final = 3
_STRIKES_S: Final = 3600.0
# What a model can do to the process that runs it; SIGALRM is its own, for a picture that took too long.
_CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGALRM}
)


def scene_metrics() -> list[MetricInfo]:
    """What a camera with a trained model tells beside the score."""
    return [
        MetricInfo("scene_anomaly", DataType.BOOLEAN, None, "whether the trained model says so", Lane.ALARM),
        MetricInfo(VERSION, DataType.STRING, None, "version of the trained model; none: the baseline scores"),
        MetricInfo(STATE, DataType.STRING, None, "none, waiting, ok, resting, failing, refused or quarantined"),
    ]


def read_scene(directory: Path, trusted_keys: Sequence[Path]) -> Package[SceneManifest]:
    """The camera's model in a directory, its files not yet looked at; raises ModelError."""
    return read_package_of(parse_scene, directory, trusted_keys)


class SceneModels:
    """The model that a camera goes by, over all of the camera's processes."""

    def __init__(self, directory: Path, camera: str, place: Place | None) -> None:
        self.state, self.reason = NONE, ""
        self.refused: str | None = None
        self.settings: SceneSettings | None = None
        """What the camera's process is told; None: to go by the baseline."""
        self.changed = asyncio.Event()
        """Set where `settings` may be others, or are to be looked for."""
        self._directory = directory
        self._camera = camera
        self._place = place
        self._config = place.inference if place else InferenceConfig()
        self._store = Store(place.state_dir / SCENES / camera, self._config.trusted_keys, read_scene) if place else None
        self._current: Package[SceneManifest] | None = None
        self._stamp: object = None
        self._retry_s = math.inf
        self._quarantined: set[str] = set()
        self._strikes: deque[float] = deque(maxlen=_STRIKES)
        self._seldom = Seldom()
        # Copies that could not come back, by digest: when they may be tried again.
        self._rests_until_s: dict[str, float] = {}

    @property
    def watch_s(self) -> float:
        """Seconds between looks at the directory."""
        return self._config.watch_s

    @property
    def version(self) -> str:
        """Of the model that is gone by."""
        return self._current.manifest.version if self._current else NONE

    def details(self) -> Mapping[str, str]:
        """What a technician may want to know."""
        found = {"scene_model": self.version, "scene_state": self.state, "scene_reason": self.reason}
        found["scene_refused"] = self.refused or ""
        return {key: value for key, value in found.items() if value}

    async def look(self) -> None:
        """Takes in what is new in the directory, once it has been tried; what is refused is told once."""
        stamp = await asyncio.to_thread(stamp_of, self._directory)
        if stamp != self._stamp or time.monotonic() >= self._retry_s:
            self._stamp, self._retry_s = stamp, math.inf
            try:
                await self._take_in()
            except ModelError as exc:
                self._retry_s = time.monotonic() + _RETRY_S
                self._refuse(str(exc))
        if self._current is None:
            await self._fall_back()

    def readings(self, at_ms: int) -> list[Reading]:
        """Which version there is and how it fares: told when that changes, and each minute."""
        told = ((VERSION, self.version), (STATE, self.state))
        return [
            Reading(name, DataType.STRING, value, at_ms)
            for name, value in told
            if self._seldom.is_due(name, value, at_ms)
        ]

    async def heard(self, told: Mapping[str, Any]) -> None:
        """The camera's process tells how the model fares."""
        package = self._current
        if package is None or self.settings is None or told["key"] != self.settings.key:
            return  # of one that was given up meanwhile
        was, self.state, self.reason = self.state, str(told["state"]), str(told["reason"] or "")
        if self.state == "ok" and was != "ok":
            logger.info("%s: %s scores the scene", self._camera, _title(package))
            if self._store is not None:
                await asyncio.to_thread(self._store.prove, package)
        elif self.state == "refused":
            await self._give_up("refused")
        elif self.state == "failing":
            await self._strike(self.reason)

    async def process_ended(self, code: int | None) -> None:
        """The camera's process has ended: a crash is laid at the model's door."""
        if self._current is not None and code is not None and -code in _CRASHES:
            self.state, self.reason = "failing", f"it ended the camera's process: {signal.Signals(-code).name}"
            await self._strike(self.reason)

    async def _take_in(self) -> None:
        if not await asyncio.to_thread(_is_there, self._directory / MANIFEST_FILE):
            return  # not yet: the camera may be learning
        package = await asyncio.to_thread(read_scene, self._directory, self._config.trusted_keys)
        is_served = self._current is not None and self._current.digest == package.digest
        if not is_served and package.digest not in self._quarantined:
            await self._admit(package)
        self.refused = None

    async def _fall_back(self) -> None:
        for package in await asyncio.to_thread(self._store.proven) if self._store else ():
            if package.digest in self._quarantined or time.monotonic() < self._rests_until_s.get(package.digest, 0.0):
                continue
            try:
                await self._admit(package)
            except ModelError as exc:
                self._rests_until_s[package.digest] = time.monotonic() + _RETRY_S
                logger.warning("%s: %s: cannot come back: %s", self._camera, _title(package), exc)
            else:
                return

    async def _admit(self, package: Package[SceneManifest]) -> None:
        self._check_camera(package.manifest)
        async with started(self._config) as trial:
            chosen = await trial.load(_settings(package, None))
        if self._store is not None:
            try:
                package = await asyncio.to_thread(self._store.keep, package)
            except ModelError as exc:
                logger.warning("%s: %s: it is run from where it lies", self._camera, exc)
            await asyncio.to_thread(self._store.prune, package, self._current)
        times = ", ".join(f"{form} {us:.0f} us" for form, us in chosen.us.items())
        logger.info("%s: %s is run as %s (%s)", self._camera, _title(package), chosen.form, times)
        self._current, self.settings = package, _settings(package, chosen.form)
        self.state, self.reason = "waiting", ""
        self._strikes.clear()
        self.changed.set()

    def _check_camera(self, manifest: SceneManifest) -> None:
        group, node, device = manifest.camera.split("/")
        here = (self._place.group, self._place.node) if self._place else (group, node)
        if (group, node, device) != (*here, self._camera):
            raise ModelError(f"was trained for {manifest.camera}, this is {'/'.join((*here, self._camera))}")

    def _refuse(self, reason: str) -> None:
        if reason != self.refused:
            logger.warning("%s: scene model refused: %s", self._camera, reason)
        self.refused = reason
        if self._current is None:
            self.state, self.reason = "refused", reason

    async def _strike(self, reason: str) -> None:
        self._strikes.append(time.monotonic())
        logger.warning("%s: scene model: %s", self._camera, reason)
        if len(self._strikes) == _STRIKES and self._strikes[-1] - self._strikes[0] < _STRIKES_S:
            await self._give_up("quarantined")

    async def _give_up(self, state: str) -> None:
        package = self._current
        assert package is not None
        if state == "quarantined":
            self._quarantined.add(package.digest)
            title = _title(package)
            logger.error("%s: %s is quarantined until there is another version", self._camera, title)
        if self._store is not None:
            await asyncio.to_thread(self._store.discard, package)
        self._current, self.settings, self.state = None, None, state
        self._stamp = None
        self._strikes.clear()
        self.changed.set()


def _settings(package: Package[SceneManifest], form: str | None) -> SceneSettings:
    manifest = package.manifest
    begin_s, span_s = span_of(manifest.quiet_hours)
    output = manifest.output
    return SceneSettings(
        key=package.digest,
        directory=str(package.directory),
        forms=forms_of([each for each in manifest.tflite_files if form in {None, each.form}]),
        side=manifest.side,
        usual=output.usual,
        floor=FLOOR,
        threshold=output.threshold,
        clear=output.threshold if output.clear is None else output.clear,
        begin_s=begin_s,
        span_s=span_s,
    )


def _is_there(path: Path) -> bool:
    """Whether there is something to look at; what cannot even be asked for is, and is refused with its reason."""
    try:
        return path.exists()
    except OSError:
        return True


def _title(package: Package[SceneManifest]) -> str:
    return f"{package.manifest.name} {package.manifest.version}"
