"""The data sets by name. What reads one is imported when it is asked for: some take their time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from models.errors import DataError

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.options import Options

_MODULES: Final = {
    "stocks-daily": "stocks",
    "exchange": "simulated",
    "plant": "simulated",
    "plant-faults": "simulated",
}
NAMES: Final = tuple(_MODULES)


def load(name: str, options: Options) -> Dataset:
    """A data set, downloaded or simulated into `options.data` where it is not there yet; raises DataError."""
    if name not in _MODULES:
        raise DataError(f"data set {name!r}: allowed are {', '.join(NAMES)}")
    dataset: Dataset = import_module(f"models.data.{_MODULES[name]}").load(name, options)
    return dataset
