"""`python -m simulators history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from simulators.history import exchange_history, plant_history, save, weather_history
from simulators.history.plant import DAY_S

if TYPE_CHECKING:
    import argparse

    from simulators.history import Recorded

_DEFAULT_STEP_S: Final = {"plant": 1.0, "exchange": 60.0, "weather": 3600.0}
_SHORTEST_STEP_S: Final = 0.01
# The physics is no more true with longer steps.
_LONGEST_STEP_S: Final = {"plant": 10.0, "exchange": 23_400.0, "weather": 86_400.0}
# A year of seconds.
_MAX_STEPS: Final = 31_622_400


def add_history(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "The same arguments give the same arrays. Times are UTC ms from 2026-01-01 on."
    parser.add_argument("what", choices=sorted(_DEFAULT_STEP_S), help="which simulator")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="at_ms, values, names, units, ...")
    parser.add_argument("--seed", type=int, default=1, help="%(default)s")
    parser.add_argument("--steps", type=int, required=True, metavar="N", help="how many")
    parser.add_argument("--step", type=float, metavar="S", help="seconds: plant 1, exchange 60, weather 3600")
    parser.add_argument("--day", type=float, metavar="S", help=f"plant: length of its day in seconds ({DAY_S:g})")
    parser.add_argument("--faults", action="store_true", help="plant: leaks, worn bearings and stuck sensors, labelled")
    parser.set_defaults(command=run_history)


def run_history(args: argparse.Namespace) -> int:
    """Writes the file; the exit code."""
    _check(args)
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
    if not 1 <= args.steps <= _MAX_STEPS:
        raise ConfigError(f"--steps: found {args.steps}: allowed are 1 to {_MAX_STEPS}")
    if args.seed < 0:
        raise ConfigError(f"--seed: found {args.seed}: allowed is 0 or more")
    longest_s = _LONGEST_STEP_S[args.what]
    if args.step is not None and not _SHORTEST_STEP_S <= args.step <= longest_s:
        raise ConfigError(f"--step: found {args.step:g}: allowed are {_SHORTEST_STEP_S:g} to {longest_s:g} seconds")
    if args.day is not None and not args.day > 0:
        raise ConfigError(f"--day: found {args.day:g}: allowed is more than 0")
    if args.what != "plant" and (args.faults or args.day is not None):
        raise ConfigError(f"--faults and --day are of the plant: {args.what} has neither")
