"""History of the simulators, which `python -m simulators history` writes, kept by its arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from contract.windows import Steps
from models.data.arrays import read_array
from models.data.dataset import Dataset, Incident, Table
from models.data.terms import About
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.options import Options

_ROOT: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 600
_FORMAT: Final = 1
_ARRAYS: Final = {
    "format": "i",
    "at_ms": "i",
    "values": "f",
    "names": "U",
    "units": "U",
    "incident_kind": "U",
    "incident_what": "U",
    "incident_start_ms": "i",
    "incident_end_ms": "i",
}


@dataclass(frozen=True, slots=True)
class _Simulation:
    """`seeds` and what else is asked for with each; `splits_symbols`: SYMBOL/column is a table's column."""

    about: About
    what: str
    step_s: float
    steps: int
    quick_steps: int
    seeds: Mapping[int, tuple[str, ...]]
    arguments: tuple[str, ...] = ()
    splits_symbols: bool = False


_OURS: Final = "none is needed: made here"
# As the demo has it; else it is an hour.
_SHORT_DAY: Final = ("--day=300",)
_SIMULATIONS: Final = {
    "plant": _Simulation(
        about=About(
            title="Simulated water plant, every second",
            licence=_OURS,
            good_for="models of the demo's plant, by the names that its Modbus source tells; what is normal",
            not_for="real plants: their physics, noise and faults differ; a day is an hour, or the demo's five minutes",
        ),
        what="plant",
        step_s=1.0,
        steps=28_800,
        quick_steps=5400,
        seeds={101: (), 102: _SHORT_DAY, 103: (), 104: _SHORT_DAY},
    ),
    "plant-faults": _Simulation(
        about=About(
            title="Simulated water plant with labelled faults, every second",
            licence=_OURS,
            good_for="judging what was trained on `plant`: leaks, worn bearings, stuck sensors, each many times",
            not_for="training on what is normal; rates of real faults, which are rare",
        ),
        what="plant",
        step_s=1.0,
        steps=28_800,
        quick_steps=7200,
        seeds={201: (), 202: _SHORT_DAY, 203: (), 204: _SHORT_DAY},
        arguments=("--faults",),
    ),
    "exchange": _Simulation(
        about=About(
            title="Simulated exchange, minute by minute",
            licence=_OURS,
            good_for="models of the demo's exchange: ranges and volatility come in regimes and in a U over the session",
            not_for="direction: prices return to a level, as real ones do not; real markets at all",
        ),
        what="exchange",
        step_s=60.0,
        steps=46_800,
        quick_steps=7020,
        seeds={301: ()},
        splits_symbols=True,
    ),
    "weather-simulated": _Simulation(
        about=About(
            title="Simulated weather, every hour",
            licence=_OURS,
            good_for="models of the demo's weather, by the names that its source tells",
            not_for="real weather: fronts come on time, every three and a half days",
        ),
        what="weather",
        step_s=3600.0,
        steps=2 * 8766,
        quick_steps=3000,
        seeds={401: ()},
    ),
}
ABOUT: Final = {name: simulation.about for name, simulation in _SIMULATIONS.items()}


def load(name: str, options: Options) -> Dataset:
    """The tables of the simulation's seeds; `options.seed` does not change them."""
    simulation = _SIMULATIONS[name]
    seeds = list(simulation.seeds)[: 2 if options.quick else None]
    steps = simulation.quick_steps if options.quick else simulation.steps
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    is_hidden = not options.console.is_terminal
    with Progress(*columns, console=options.console, transient=True, disable=is_hidden) as progress:
        histories = [
            (seed, _history(simulation, seed, steps, options))
            for seed in progress.track(seeds, description=f"simulating {name}")
        ]
    tables = [table for seed, history in histories for table in _tables(simulation, seed, history)]
    units = _units(simulation, histories[0][1])
    said = f"simulators history {simulation.what}, seeds {', '.join(map(str, seeds))}"
    return Dataset(name, simulation.about.title, said, _OURS, simulation.step_s, units, tuple(tables))


def _history(simulation: _Simulation, seed: int, steps: int, options: Options) -> dict[str, Any]:
    arguments = [simulation.what, f"--seed={seed}", f"--steps={steps}", f"--step={simulation.step_s:g}"]
    arguments += [*simulation.arguments, *simulation.seeds[seed]]
    kept = options.data / "simulated" / f"{'_'.join(arguments).replace('--', '')}.npz"
    if not kept.is_file():
        _simulate(arguments, kept)
    try:
        return read_history(kept.read_bytes(), kept.name, steps)
    except DataError:
        kept.unlink()
        raise


def _simulate(arguments: Sequence[str], kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "simulators", "history", *arguments, f"--out={kept.resolve()}"]
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, cwd=_ROOT, env=dict(os.environ)
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DataError(f"simulators history {arguments[0]}: {exc}") from exc
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["says nothing"])[-1]
        raise DataError(f"simulators history {arguments[0]}: {reason}")


def read_history(content: bytes, origin: str, steps: int) -> dict[str, Any]:
    """The arrays of a history's file, of so many steps; raises DataError."""
    arrays = {name: read_array(content, name, kind, origin) for name, kind in _ARRAYS.items()}
    shape = arrays["values"].shape
    incidents = {len(arrays[name]) for name in _ARRAYS if name.startswith("incident")}
    if (
        arrays["format"] != _FORMAT
        or shape != (steps, len(arrays["names"]))
        or len(arrays["at_ms"]) != steps
        or len(arrays["units"]) != shape[1]
        or len(incidents) != 1
        or (np.diff(arrays["at_ms"]) <= 0).any()
    ):
        raise DataError(f"{origin}: is no history of {steps} steps as this version writes it")
    return arrays


def _tables(simulation: _Simulation, seed: int, history: dict[str, Any]) -> list[Table]:
    values, names = history["values"], [str(name) for name in history["names"]]
    groups = {f"{simulation.what}-{seed}": list(range(len(names)))}
    if simulation.splits_symbols:
        symbols = dict.fromkeys(name.rpartition("/")[0] for name in names)
        groups = {symbol: [i for i, name in enumerate(names) if name.startswith(f"{symbol}/")] for symbol in symbols}
    fields = ("incident_kind", "incident_start_ms", "incident_end_ms", "incident_what")
    incidents = tuple(
        Incident(str(kind), int(start), int(end), str(what))
        for kind, start, end, what in zip(*(history[field] for field in fields), strict=True)
    )
    return [
        Table(key, Steps(history["at_ms"], values[:, own], np.zeros((len(values), len(own)), bool)), incidents)
        for key, own in groups.items()
    ]


def _units(simulation: _Simulation, history: dict[str, Any]) -> dict[str, str | None]:
    units = {str(name): str(unit) or None for name, unit in zip(history["names"], history["units"], strict=True)}
    if simulation.splits_symbols:
        return {name.rpartition("/")[2]: unit for name, unit in units.items()}
    return units
