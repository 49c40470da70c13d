"""The data sets by name. What reads one is imported when it is asked for: some take their time."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from models.data.terms import About
from models.errors import DataError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from models.data.dataset import Dataset
    from models.options import Options

# Each of these modules has `load(name, options)`, and says in ABOUT what its sets are.
_MODULES: Final = {
    "stocks-daily": "stocks",
    "exchange": "simulated",
    "plant": "simulated",
    "plant-faults": "simulated",
    "wind-turbines": "wind",
    "weather-hourly": "weather",
    "weather-stations": "weather",
    "weather-daily": "weather",
    "weather-simulated": "simulated",
    "water-flow": "labelled",
    "shuttle": "labelled",
}
NAMES: Final = tuple(_MODULES)
_KEPT: Final = "kept:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A data set in a few words; `columns` with their units, `keys` of its tables."""

    name: str
    about: About
    origin: str
    keys: tuple[str, ...]
    rows: int
    from_at: dt.datetime
    to_at: dt.datetime
    step_s: float
    columns: tuple[str, ...]
    incidents: int


def load(name: str, options: Options) -> Dataset:
    """A data set, downloaded or simulated into `options.data` where it is not there yet; raises DataError."""
    dataset: Dataset = _module(name).load(name, options)
    return dataset


def about(name: str) -> About:
    """What one of `NAMES` is, under which terms, and what it is good for; raises DataError."""
    found: About = _module(name).ABOUT[name]
    return found


def describe(dataset: Dataset) -> Described:
    """A data set in a few words."""
    return Described(
        name=dataset.name,
        about=about(dataset.name) if dataset.name in NAMES else _of_yours(dataset),
        origin=dataset.origin,
        keys=tuple(table.key for table in dataset.tables),
        rows=sum(len(table.steps.at_ms) for table in dataset.tables),
        from_at=dataset.from_at,
        to_at=dataset.to_at,
        step_s=dataset.step_s,
        columns=tuple(f"{name} ({unit})" if unit else name for name, unit in dataset.units.items()),
        incidents=sum(len(table.incidents) for table in dataset.tables),
    )


def describe_all(options: Options, names: Iterable[str] | None = None) -> list[Described]:
    """These data sets, or all: they are downloaded and simulated for it; raises DataError."""
    kept: list[str] = import_module("models.data.kept").names(options)
    return [describe(load(name, options)) for name in ((*NAMES, *kept) if names is None else names)]


def _of_yours(dataset: Dataset) -> About:
    return About(
        title=dataset.title, licence=dataset.licence, good_for="what it was put aside for", not_for="what came later"
    )


def _module(name: str) -> Any:  # noqa: ANN401 - a module by name
    if name not in _MODULES and not name.startswith(_KEPT):
        raise DataError(f"data set {name!r}: allowed are {', '.join(NAMES)} and what was kept")
    return import_module(f"models.data.{_MODULES.get(name, 'kept')}")
