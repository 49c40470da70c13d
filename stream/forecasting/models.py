"""Which models are served, and of which devices: the catalogue and the bindings, looked at now and then."""

from __future__ import annotations

import fnmatch
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from contract.manifest import VERSION, ForecastOutput
from stream.errors import ModelError
from stream.forecasting.cloud import Bound
from stream.forecasting.edge import RESULTS, Results
from stream.forecasting.lookup import dictionary
from stream.forecasting.progress import ModelProgress
from stream.forecasting.watched import edge_device, edge_pattern, find, patterns
from stream.ingest.batch import NUMERIC, TEXT
from stream.serving import Catalogue, trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import cursor
    from pyspark.sql import SparkSession

    from stream.forecasting.config import Binding, ForecastingConfig
    from stream.forecasting.progress import ForecastingProgress
    from stream.forecasting.watched import Dictionary, Found, Watched
    from stream.serving import Package

logger = logging.getLogger(__name__)

_SHOWN: Final = 5


class Models:
    """The packages in the directory and what each is bound to; says once what is served, refused or lacking."""

    def __init__(self, spark: SparkSession, config: ForecastingConfig, progress: ForecastingProgress) -> None:
        self._catalogue = Catalogue(config.models_dir, config.trusted_keys, partial(trial, spark))
        self._config = config
        self._progress = progress
        self._said: dict[str, str] = {}
        self._are_waiting = False

    def look(self) -> bool:
        """Look at the directory; whether more is to be tried. Raises FatalError never.

        What is new is tried, one package in each look: that takes seconds, on a busy machine a minute.
        """
        try:
            news = self._catalogue.look(most=1)
        except ModelError as exc:
            self._say("directory", f"no model is served: {exc}")
            return False
        self._are_waiting = bool(news.waiting)
        self._well("directory", f"{self._config.models_dir} can be read again")
        for name, package in news.served.items():
            logger.info("%s is served (%s)", package.title, name)
            self._progress.refused.pop(name, None)
        for name, reason in news.refused.items():
            logger.warning("%s is refused, the others go on: %s", name, reason)
            self._progress.refused[name] = reason
        for name in news.gone:
            logger.info("%s is gone", name)
            self._progress.refused.pop(name, None)
        return self._are_waiting

    def bounds(self, cursor: cursor) -> list[Bound]:
        """Each package with its binding, and the series that these come to now."""
        pairs = list(self._pairs())
        wanted = [each for binding, package in pairs for each in _patterns(binding, package)]
        numbers = dictionary(cursor, NUMERIC, wanted) if wanted else {}
        versions = dictionary(cursor, TEXT, ((device, f"^{VERSION}$") for device, _ in wanted)) if wanted else {}
        taken: set[tuple[str, Watched]] = set()
        made = [self._bound(binding, package, (numbers, versions), taken) for binding, package in pairs]
        for bound in made:
            title = bound.package.title
            told = self._progress.models.setdefault(title, ModelProgress(bound.manifest.version))
            told.watched = sum(len(each.series) for each in made if each.package.title == title)
        for title in self._progress.models.keys() - {bound.package.title for bound in made}:
            del self._progress.models[title]
        return made

    def _pairs(self) -> Iterator[tuple[Binding, Package]]:
        """Each package that a binding names; of several of the same model the first, and none that cannot be dated."""
        by_model: dict[str, Package] = {}
        for name, package in sorted(self._catalogue.packages.items()):
            manifest = package.manifest
            if isinstance(manifest.output, ForecastOutput) and manifest.window.steps == "present":
                self._say(name, f"{package.title} is not served: with steps present nobody knows of when a forecast is")
            elif by_model.setdefault(manifest.name, package) is not package:
                served = by_model[manifest.name].title
                self._say(name, f"{package.title} in {name} is not served: {served} is, and is the same model")
            else:
                self._said.pop(name, None)
        for binding in self._config.bindings:
            named = [each for model, each in by_model.items() if fnmatch.fnmatchcase(model, binding.model)]
            if named:
                self._well(f"binding {binding.model}", f"{binding.model} is there now")
            elif not self._are_waiting:
                self._say(f"binding {binding.model}", f"no model {binding.model} in {self._config.models_dir}")
            yield from ((binding, each) for each in named)

    def _bound(
        self,
        binding: Binding,
        package: Package,
        known: tuple[Dictionary, Dictionary],
        taken: set[tuple[str, Watched]],
    ) -> Bound:
        name = package.manifest.name
        numbers, versions = known
        found = find(binding, package.manifest, numbers)
        series = {watched: each for watched, each in found.series.items() if (name, watched) not in taken}
        taken.update((name, watched) for watched in series)
        results = {}
        for watched in series:
            there = edge_device(binding, name, watched)
            if there is not None and there in numbers:
                results[watched] = Results(numbers[there], versions.get(there, {}).get(VERSION))
        self._tell_lacking(package, binding, found)
        return Bound(package, binding, series, results)

    def _tell_lacking(self, package: Package, binding: Binding, found: Found) -> None:
        where = f"{package.title} on {', '.join(binding.devices)}"
        if not found.series and not found.lacking:
            self._say(where, f"{where}: no device has a series of its inputs yet")
        elif found.lacking:
            watched, missing = next(iter(found.lacking.items()))
            more = "" if len(found.lacking) == 1 else f" (and {len(found.lacking) - 1} more like it)"
            shown = ", ".join(missing[:_SHOWN]) + (
                f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            )
            self._say(where, f"{package.title} does not look at {watched}{more}: there is no series {shown}")
        else:
            self._well(where, f"{where}: {len(found.series)} found")

    def _say(self, about: str, text: str) -> None:
        """Once, until it is another."""
        if self._said.get(about) != text:
            self._said[about] = text
            logger.warning("%s", text)

    def _well(self, about: str, text: str) -> None:
        if self._said.pop(about, None) is not None:
            logger.info("%s", text)


def _patterns(binding: Binding, package: Package) -> Iterator[tuple[str, str]]:
    yield from patterns(binding, package.manifest)
    if binding.edge is not None:
        yield edge_pattern(binding.edge), RESULTS
