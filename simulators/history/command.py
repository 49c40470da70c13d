"""`python -m simulators history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from simulators.history import exchange_history, plant_history, save, weather_history
from simulators.history.camera import camera_history, save_pictures
from simulators.history.plant import DAY_S

if TYPE_CHECKING:
    import argparse

    from simulators.history import Recorded

_DEFAULT_STEP_S: Final = {"plant": 1.0, "exchange": 60.0, "weather": 3600.0, "camera": 60.0}
_SHORTEST_STEP_S: Final = 0.01
# The physics is no more true with longer steps.
_LONGEST_STEP_S: Final = {"plant": 10.0, "exchange": 23_400.0, "weather": 86_400.0, "camera": 86_400.0}
# A year of seconds; of pictures 2 GB.
_MAX_STEPS: Final = 31_622_400
_MAX_PICTURES: Final = 200_000
_MAX_DAY: Final = 36_500


def add_history(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "The same arguments give the same arrays. Times are UTC ms from 2026-01-01 on."
    parser.add_argument("what", choices=sorted(_DEFAULT_STEP_S), help="which simulator")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="at_ms, values, names, units, ...")
    parser.add_argument("--seed", type=int, default=1, help="%(default)s")
    parser.add_argument("--steps", type=int, required=True, metavar="N", help="how many")
    parser.add_argument(
        "--step", type=float, metavar="S", help="seconds: plant 1, exchange and camera 60, weather 3600"
    )
    parser.add_argument("--day", type=float, metavar="S", help=f"plant: length of its day in seconds ({DAY_S:g})")
    parser.add_argument("--faults", action="store_true", help="plant: leaks, worn ...; camera: incidents; labelled")
    parser.add_argument("--hours", metavar="HH:MM-HH:MM", help="camera: of the day, UTC (00:00-24:00)")
    parser.add_argument("--from-day", type=int, metavar="N", help="camera: number of the first day (0)")
    parser.set_defaults(command=run_history)


def run_history(args: argparse.Namespace) -> int:
    """Writes the file; the exit code."""
    _check(args)
    if args.what == "camera":
        hours, day = args.hours or "00:00-24:00", args.from_day or 0
        step_s = args.step or _DEFAULT_STEP_S["camera"]
        watched = camera_history(args.seed, args.steps, step_s, hours=hours, day=day, with_faults=args.faults)
        save_pictures(watched, args.out)
    else:
        save(_history(args), args.out)
    return 0


def _history(args: argparse.Namespace) -> Recorded:
    step_s = args.step or _DEFAULT_STEP_S[args.what]
    if args.what == "plant":
        return plant_history(args.seed, args.steps, step_s, day_s=args.day or DAY_S, with_faults=args.faults)
    if step_s != round(step_s):
        raise ConfigError(f"--step: found {step_s:g}: allowed are whole seconds")
    make = exchange_history if args.what == "exchange" else weather_history
    return make(args.seed, args.steps, round(step_s))


def _check(args: argparse.Namespace) -> None:
    most = _MAX_PICTURES if args.what == "camera" else _MAX_STEPS
    if not 1 <= args.steps <= most:
        raise ConfigError(f"--steps: found {args.steps}: allowed are 1 to {most}")
    if args.seed < 0:
        raise ConfigError(f"--seed: found {args.seed}: allowed is 0 or more")
    longest_s = _LONGEST_STEP_S[args.what]
    if args.step is not None and not _SHORTEST_STEP_S <= args.step <= longest_s:
        raise ConfigError(f"--step: found {args.step:g}: allowed are {_SHORTEST_STEP_S:g} to {longest_s:g} seconds")
    if args.day is not None and not args.day > 0:
        raise ConfigError(f"--day: found {args.day:g}: allowed is more than 0")
    if args.what not in {"plant", "camera"} and args.faults:
        raise ConfigError(f"--faults are of plant and camera: {args.what} has none")
    if args.what != "plant" and args.day is not None:
        raise ConfigError(f"--day is of the plant: {args.what} has none")
    if args.what != "camera" and (args.hours is not None or args.from_day is not None):
        raise ConfigError(f"--hours and --from-day are of the camera: {args.what} has neither")
    if args.from_day is not None and not 0 <= args.from_day <= _MAX_DAY:
        raise ConfigError(f"--from-day: found {args.from_day}: allowed are 0 to {_MAX_DAY}")
