"""How well the stream's detectors find labelled faults of the plant, and how often they are wrong.

    python -m bench.faults [--hours 24] [--seed 601] [--histories 3] [--model DIR]

Each history is `python -m simulators history plant --faults`, of seeds from `--seed` on, and as many without faults, of
seeds from 100 further on, for false incidents. Seeds below 600 were looked at while defaults were chosen. Every method
sees steps of 10 s of all 48 series from the first one on; the first hours, in which all of them learn, are not judged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.faults.histories import history
from bench.faults.judged import Judged
from bench.faults.methods import methods


def main() -> int:
    """Makes the histories, runs the methods on them, prints the table."""
    parser = _parser()
    options = parser.parse_args()
    if options.settle_hours + 1 > options.hours:
        parser.error("--hours: must be an hour more than --settle-hours at least, or nothing is judged")
    with tempfile.TemporaryDirectory() as directory:
        seeds = range(options.seed, options.seed + options.histories)
        faulty = [history(Path(directory), seed, options, "--faults") for seed in seeds]
        healthy = [history(Path(directory), seed + 100, options) for seed in seeds]
    table = _table(
        f"{options.histories} x {options.hours} h with faults, seeds from {options.seed} on, and as much without"
    )
    for name, method in methods(options).items():
        alarms = method([*faulty, *healthy])
        judged = Judged.of(faulty, alarms[: len(faulty)], healthy, alarms[len(faulty) :], options.settle_hours)
        table.add_row(name, *judged.cells())
    Console(width=140).print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=24, help="of each history (24)")
    parser.add_argument("--seed", type=int, default=601, help="of the first history (601); below 600: for tuning")
    parser.add_argument("--histories", type=int, default=3, help="with faults, and as many without (3)")
    parser.add_argument("--settle-hours", type=float, default=4, help="at the begin of each, which are not judged (4)")
    parser.add_argument(
        "--day", type=int, default=3600, help="seconds of the plant's day, which the season is told (3600)"
    )
    parser.add_argument("--model", type=Path, help="package of an autoencoder; without: the newest in .models/registry")
    return parser


def _table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("method")
    columns = ("recall", "by chance", "bearing", "leak", "stuck", "own series", "precision", "delay s")
    for name in (*columns, "false a day", "a day and series"):
        table.add_column(name, justify="right")
    return table


if __name__ == "__main__":
    sys.exit(main())
