"""From sampled to committed: MQTT, bridge, Kafka, stream and database, at a steady rate, without and with the analysis.

    python -m bench.latency [--rate 10000] [--seconds 60] [--trigger 0.5 1.0] [--json FILE]

Ten nodes with a hundred points each; a reading counts from when it was sampled to when another connection sees its row,
looked for every 20 ms. All but the trigger is as by default. CPU time is that of all parts at this rate, and of the
same parts when nothing comes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psycopg2
from rich.console import Console
from rich.table import Table

from bench.fleet import Fleet, metric_name
from bench.scale.system import PARTS, Load, System

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLEET: Final = Fleet(10, 100, 100)
_WARM_S: Final = 20.0
_TAIL_S: Final = 600.0  # the nodes go on until they are ended
_POLL_S: Final = 0.02
# A message's readings are sampled together, so one metric of each node tells of all.
_SERIES: Final = "select series_id from series where metric = %s and kind = 'numeric'"
_NEW: Final = """
select series_id, (extract(epoch from sampled_at) * 1000)::bigint from reading
where series_id = any(%s) and sampled_at > to_timestamp(%s / 1000.0)
"""
_MESSAGES: Final = """
select count(*) from reading
where series_id = any(%s) and sampled_at >= to_timestamp(%s / 1000.0) and sampled_at < to_timestamp(%s / 1000.0)
"""
# So far back rows are looked for, and so long is waited for the last: what takes longer is not left out unsaid.
_LONGEST_S: Final = 10


@dataclass(frozen=True, slots=True)
class Latency:
    """What was seen in a run: milliseconds, messages, and cores that were busy."""

    analysis: bool
    trigger_s: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    messages: int
    busy_cores: float
    idle_cores: float


class Watch:
    """Sees rows come, on a connection and a thread of its own; `seen` holds (sampled at, latency), both ms."""

    def __init__(self, dsn: str) -> None:
        self.seen: list[tuple[int, int]] = []
        self.series: list[int] = []
        self._dsn = dsn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(psycopg2.connect(self._dsn)) as opened, opened.cursor() as cursor:
            opened.autocommit = True
            cursor.execute(_SERIES, (metric_name(0),))
            self.series = [row[0] for row in cursor.fetchall()]
            since_ms = time.time_ns() // 1_000_000 - _LONGEST_S * 1000
            known: set[tuple[int, int]] = set()
            while not self._stop.wait(_POLL_S):
                cursor.execute(_NEW, (self.series, since_ms))
                rows = set(cursor.fetchall())
                now_ms = time.time_ns() // 1_000_000
                self.seen += [(at_ms, now_ms - at_ms) for _, at_ms in rows - known]
                since_ms = max(since_ms, now_ms - _LONGEST_S * 1000)
                known = {row for row in known | rows if row[1] > since_ms}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all and print it."""
    options = _parser().parse_args(arguments)
    found = [
        _measured(options.rate, options.seconds, trigger_s, analysis=analysis)
        for trigger_s in options.trigger
        for analysis in (False, True)
    ]
    _print(found, options.rate)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=10_000.0, help="readings a second of all nodes together (10000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which each run is watched (60)")
    parser.add_argument("--trigger", type=float, nargs="+", default=[1.0], help="seconds between micro-batches (1.0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


def _measured(rate: float, seconds: float, trigger_s: float, *, analysis: bool) -> Latency:
    stream: dict[str, Any] = {"trigger_interval_s": trigger_s} | ({} if analysis else {"analysis": None})
    with tempfile.TemporaryDirectory(prefix="bench-latency-") as scratch, System(Path(scratch), stream) as system:
        time.sleep(_WARM_S / 2)
        idle_cores = _cores(system, min(20.0, seconds))
        nodes = system.publish(Load(_FLEET, rate), _WARM_S + seconds + _TAIL_S)
        system.await_stored(1)
        time.sleep(_WARM_S)
        watch = Watch(system.timescale.superuser_dsn)
        watch.start()
        time.sleep(2)  # what was there before is seen, and not counted
        from_ms = time.time_ns() // 1_000_000
        busy_cores = _cores(system, seconds)
        to_ms = time.time_ns() // 1_000_000
        time.sleep(_LONGEST_S)  # what was sampled in the last moment comes
        watch.stop()
        nodes.kill()
        nodes.wait()
        ages = np.array([latency for at_ms, latency in watch.seen if from_ms <= at_ms < to_ms])
        stored = system.one(_MESSAGES, watch.series, from_ms, to_ms)
    if stored > len(ages) or not stored:
        raise SystemExit(
            f"{stored - len(ages)} of {stored} messages took more than {_LONGEST_S} s: too much for this machine"
        )
    p50, p99, longest = np.percentile(ages, [50, 99, 100]).tolist()
    print(f"trigger {trigger_s} s, analysis {analysis}: p50 {p50:.0f} p99 {p99:.0f} ms", file=sys.stderr)
    return Latency(analysis, trigger_s, p50, p99, longest, len(ages), busy_cores, idle_cores)


def _cores(system: System, seconds: float) -> float:
    """How many cores all parts together keep busy."""
    before, began_s = system.costs(), time.monotonic()
    time.sleep(seconds)
    after, ended_s = system.costs(), time.monotonic()
    return sum(after[part].cpu_s - before[part].cpu_s for part in PARTS) / (ended_s - began_s)


def _print(found: Sequence[Latency], rate: float) -> None:
    table = Table(title=f"Sampled to committed, {rate:,.0f} readings a second")
    for heading in ("trigger s", "analysis", "p50 ms", "p99 ms", "longest ms", "messages", "cores busy", "cores idle"):
        table.add_column(heading, justify="right")
    for each in found:
        table.add_row(
            f"{each.trigger_s:g}",
            "yes" if each.analysis else "no",
            f"{each.p50_ms:,.0f}",
            f"{each.p99_ms:,.0f}",
            f"{each.longest_ms:,.0f}",
            f"{each.messages:,}",
            f"{each.busy_cores:.2f}",
            f"{each.idle_cores:.2f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
