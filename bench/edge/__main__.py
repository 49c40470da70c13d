"""Values polled per CPU-second and requests per cycle, each poller in turn on the same plant and broker.

    python -m bench.edge [--seconds 30] [--interval 0.1] [--only headwater]

The rates hold for this machine; the ratios are what to compare. Telegraf is built from its source by Go, and
thingsboard-gateway installed from its lock, into `.stack/bench`, by the first run.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from bench.edge.collector import Collector
from bench.edge.contestants import Contestant, Headwater, Telegraf, TelegrafDefault, ThingsBoardGateway
from bench.edge.layout import POINTS_PER_CYCLE, UNITS
from bench.edge.plant import Plant
from bench.edge.process import usage
from stack import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTESTANTS: Final = (Headwater(), Telegraf(), TelegrafDefault(), ThingsBoardGateway())
_START_S: Final = 60.0
_SETTLE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a poller did while it was watched."""

    name: str
    interval_s: float
    seconds: float
    values: int
    requests: int
    cpu_s: float
    resident_mib: float

    @property
    def values_per_cpu_second(self) -> float:
        """Values that arrived at the broker for each second of CPU time."""
        return self.values / self.cpu_s if self.cpu_s else math.inf

    @property
    def requests_per_cycle(self) -> float:
        """Modbus requests for each thousand values that arrived."""
        return self.requests * POINTS_PER_CYCLE / self.values if self.values else math.inf


def main() -> int:
    """Runs the contest and prints it."""
    parser = argparse.ArgumentParser(prog="python -m bench.edge", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each is watched (30)")
    parser.add_argument(
        "--interval", type=float, default=0.1, metavar="S", help="seconds from one cycle to the next (0.1)"
    )
    names = [contestant.name for contestant in _CONTESTANTS]
    parser.add_argument("--only", action="append", choices=names, help="this one alone; may be given again")
    options = parser.parse_args()
    results = []
    for contestant in _CONTESTANTS:
        if options.only and contestant.name not in options.only:
            continue
        if (why := contestant.missing()) is not None:
            print(f"{contestant.name}: left out: {why}", file=sys.stderr)
            continue
        contestant.install()
        print(f"{contestant.name}: watched for {options.seconds:g} s", file=sys.stderr)
        interval_s = max(options.interval, contestant.shortest_interval_s)
        results.append(_watch(contestant, options.seconds, interval_s))
    _print(results)
    return 0


def _watch(contestant: Contestant, seconds: float, interval_s: float) -> Result:
    with (
        tempfile.TemporaryDirectory(prefix="bench-edge-") as scratch,
        Plant() as plant,
        Mosquitto() as broker,
        Collector(broker.port) as collector,
    ):
        process = contestant.start(Path(scratch), plant.port, broker.port, interval_s)
        try:
            _await_values(process, collector, Path(scratch))
            time.sleep(_SETTLE_S)
            began_s, cost, count, requests = time.monotonic(), usage(process.pid), collector.count(), plant.requests
            time.sleep(seconds)
            ended_s, cost_after, count_after = time.monotonic(), usage(process.pid), collector.count()
            return Result(
                contestant.name,
                interval_s,
                ended_s - began_s,
                count_after.values - count.values,
                plant.requests - requests,
                cost_after.cpu_s - cost.cpu_s,
                cost_after.resident_mib,
            )
        finally:
            _end(process)


def _await_values(process: subprocess.Popen[bytes], collector: Collector, directory: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while collector.count().values < POINTS_PER_CYCLE:
        if process.poll() is not None or time.monotonic() > deadline_s:
            log = (directory / "log").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"no values came within {_START_S:g} s; its last words:\n{log[-2000:]}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _print(results: Sequence[Result]) -> None:
    table = Table(title=f"{POINTS_PER_CYCLE} points over {len(UNITS)} units, to MQTT at QoS 1")
    for heading in (
        "",
        "every",
        "values/s",
        "requests a cycle",
        "CPU %",
        "values per CPU-second",
        "of ours",
        "memory MiB",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    ours = results[0].values_per_cpu_second if results else 1.0
    for result in results:
        table.add_row(
            result.name,
            f"{result.interval_s:g} s",
            f"{result.values / result.seconds:,.0f}",
            f"{result.requests_per_cycle:.1f}",
            f"{100 * result.cpu_s / result.seconds:.1f}",
            f"{result.values_per_cpu_second:,.0f}",
            f"{result.values_per_cpu_second / ours:.2f}",
            f"{result.resident_mib:.0f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
