"""The simulated camera's quiet hours to learn from, and hours of another day with incidents to be judged by."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.data.arrays import read_array
from models.data.dataset import Incident
from models.errors import DataError
from models.scene.samples import Samples

if TYPE_CHECKING:
    from models.options import Options

CAMERA: Final = "demo/edge-1/gate"
_ROOT: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 300
_FORMAT: Final = 1
# Night, dawn from five on, and day: what is usual changes, as it does before most cameras.
_HOURS: Final = "02:00-08:00"
_SEED: Final = 7
_DAYS: Final = 4
_ARRAYS: Final = {
    "format": "i",
    "at_ms": "i",
    "pictures": "u",
    "incident_kind": "U",
    "incident_what": "U",
    "incident_start_ms": "i",
    "incident_end_ms": "i",
}


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Pictures one after another, and what happened."""

    pictures: Samples
    incidents: tuple[Incident, ...]


def simulated(options: Options) -> tuple[Samples, Timeline]:
    """Samples of several days, and the day after them; kept in `options.data`. Raises DataError."""
    # Quickly: a tenth of them, over all of the hours.
    every_s, watched_s, steps = (600, 12, 320) if options.quick else (50, 4, 5400)
    learnt_steps = _DAYS * 6 * 3600 // every_s
    wanted = {
        "samples": (f"--steps={learnt_steps}", f"--step={every_s}"),
        "timeline": (f"--steps={steps}", f"--step={watched_s}", f"--from-day={_DAYS}", "--faults"),
    }
    asked = {name: _kept(options, arguments) for name, arguments in wanted.items()}
    _simulate({place: arguments for (place, arguments) in asked.values() if not place.is_file()})
    learnt, watched = (_read(asked[name][0]) for name in wanted)
    origin = f"simulators history camera, seed {_SEED}"
    return (
        Samples(CAMERA, origin, learnt["at_ms"], learnt["pictures"]),
        Timeline(Samples(CAMERA, origin, watched["at_ms"], watched["pictures"]), _incidents(watched)),
    )


def _kept(options: Options, chosen: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    arguments = ("camera", f"--seed={_SEED}", f"--hours={_HOURS}", *chosen)
    name = "_".join(arguments).replace("--", "").replace(":", "")
    return options.data / "simulated" / f"{name}.npz", arguments


def _simulate(wanted: dict[Path, tuple[str, ...]]) -> None:
    """Both at once: each takes one core."""
    running = []
    for place, arguments in wanted.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "simulators", "history", *arguments, f"--out={place.resolve()}"]
        running.append(
            subprocess.Popen(  # noqa: S603 - the command is ours
                command, cwd=_ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        for process in running:
            _, said = process.communicate(timeout=_TIMEOUT_S)
            if process.returncode:
                raise DataError(f"simulators history camera: {(said.strip().splitlines() or ['says nothing'])[-1]}")
    except subprocess.TimeoutExpired:
        raise DataError(f"simulators history camera: is not done within {_TIMEOUT_S} s") from None
    finally:
        for process in running:
            process.kill()
            process.wait()


def _read(place: Path) -> dict[str, Any]:
    content = place.read_bytes()
    try:
        arrays = {name: read_array(content, name, kind, place.name) for name, kind in _ARRAYS.items()}
    except DataError:
        place.unlink()
        raise
    if arrays["format"] != _FORMAT or len(arrays["pictures"]) != len(arrays["at_ms"]):
        place.unlink()
        raise DataError(f"{place.name}: is no history as this version writes it")
    return arrays


def _incidents(arrays: dict[str, Any]) -> tuple[Incident, ...]:
    fields = ("incident_kind", "incident_start_ms", "incident_end_ms", "incident_what")
    return tuple(
        Incident(str(kind), int(start), int(end), str(what))
        for kind, start, end, what in zip(*(arrays[field] for field in fields), strict=True)
    )
