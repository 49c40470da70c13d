"""Kafka to committed rows, each contestant in turn on the same readings, broker and database server.

    python -m bench.stream [--readings 2000000] [--series 1000] [--repeats 3] [--only NAME] [--plot FILE.png]

The readings wait in Kafka, and every run has a fresh database. What counts begins with the second micro-batch: before
it, as many payloads as it takes are stored, by which JVM, workers and caches are warm. Rates hold for this machine;
ratios to the bare COPY of the same rows are what to compare. Beside a plot, the figures are written as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from bench.stream.contestants import CONTESTANTS, BareCopy, Contestant, Outcome, Task
from bench.stream.database import fresh
from bench.stream.load import Load
from stack import BrokerLimits, Kafka, Timescale
from stream.config import KafkaConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

# PostgreSQL on a machine of its own would have more; commits are durable, as the stream wants them.
_SETTINGS: Final = {"max_wal_size": "4GB", "wal_compression": "lz4"}
_SHARED_BUFFERS: Final = "2GB"
_PARTITIONS: Final = 6  # as the bridge makes the topic
_AT_ONCE: Final = int(KafkaConfig.model_fields["max_offsets_per_trigger"].default)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the contest and print it."""
    options = _parser().parse_args(arguments)
    chosen = [each for each in CONTESTANTS if not options.only or each.name in options.only]
    for each in list(chosen):
        if (why := each.missing()) is not None:
            print(f"{each.name}: left out: {why}", file=sys.stderr)
            chosen.remove(each)
        else:
            each.install()
    load = Load(options.readings, options.series, options.records)
    outcomes: dict[str, list[Outcome]] = {each.name: [] for each in chosen}
    with (
        Kafka(limits=BrokerLimits(retention_bytes=4 << 30)) as kafka,
        Timescale(shared_buffers=_SHARED_BUFFERS, settings=_SETTINGS) as server,
    ):
        load.fill(kafka, "payloads", _PARTITIONS, lines=False)
        if any(each.name == "Telegraf" for each in chosen):
            load.fill(kafka, "lines", _PARTITIONS, lines=True)
        for number in range(options.repeats):
            for each in chosen:
                outcome = _run(each, number, load, kafka, server, options.records)
                outcomes[each.name].append(outcome)
                print(f"{each.name}: {load.readings / outcome.seconds:,.0f} rows/s", file=sys.stderr)
    _print(outcomes, load, options.records)
    if options.plot is not None:
        _write(outcomes, load, options.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.stream", description=__doc__.partition("\n")[0])
    parser.add_argument("--readings", type=int, default=2_000_000, help="that count (2000000)")
    parser.add_argument("--series", type=int, default=1000, help="a tenth of them in each payload (1000)")
    parser.add_argument("--records", type=int, default=_AT_ONCE, help=f"payloads in a micro-batch ({_AT_ONCE})")
    parser.add_argument("--repeats", type=int, default=3, help="the median run counts (3)")
    parser.add_argument(
        "--only", action="append", choices=[each.name for each in CONTESTANTS], help="this one alone; may be repeated"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, and write the figures beside it as JSON")
    return parser


def _run(
    kind: type[Contestant], number: int, load: Load, kafka: Kafka, server: Timescale, records_at_once: int
) -> Outcome:
    with fresh(server) as database, tempfile.TemporaryDirectory(prefix="bench-stream-") as scratch:
        task = Task(load, kafka, "payloads", "lines", records_at_once, database, Path(scratch), number)
        outcome = kind().run(task)
    if outcome.rows != load.rows:
        raise SystemExit(f"{kind.name}: {outcome.rows} rows of {load.rows}")
    return outcome


def median(outcomes: Sequence[Outcome]) -> Outcome:
    """The run in the middle."""
    return sorted(outcomes, key=lambda outcome: outcome.seconds)[len(outcomes) // 2]


def _print(outcomes: dict[str, list[Outcome]], load: Load, records: int) -> None:
    title = (
        f"{load.readings:,} readings of {load.series:,} series, {load.metrics} in a payload, {records} payloads at once"
    )
    table = Table(title=title)
    for heading in ("", "rows/s", "of COPY", "spread", "exactly once", "CPU s per M", "s with start and end"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    floor = median(outcomes[BareCopy.name]) if outcomes.get(BareCopy.name) else None
    for kind in CONTESTANTS:
        if not (runs := outcomes.get(kind.name)):
            continue
        run, rates = median(runs), [load.readings / each.seconds for each in runs]
        table.add_row(
            kind.name,
            f"{load.readings / run.seconds:,.0f}",
            f"{floor.seconds / run.seconds:.2f}" if floor else "",
            f"{statistics.stdev(rates) / statistics.mean(rates):.0%}" if len(rates) > 1 else "",
            kind.exactly_once,
            f"{run.cpu_s / run.rows * 1e6:.1f}" if run.cpu_s is not None else "",
            f"{run.whole_s:.1f}" if run.whole_s is not None else "",
        )
    settings = ", ".join(f"{key}={value}" for key, value in (_SETTINGS | {"shared_buffers": _SHARED_BUFFERS}).items())
    Console(width=120).print(table)
    print(f"TimescaleDB with {settings}, synchronous_commit=on; Kafka with {_PARTITIONS} partitions; Spark local[2]")


def _write(outcomes: dict[str, list[Outcome]], load: Load, path: Path) -> None:
    from bench.stream.figure import draw  # noqa: PLC0415 - a second that a run without a figure need not wait

    medians = {name: median(runs) for name, runs in outcomes.items() if runs}
    rates = {name: load.readings / run.seconds for name, run in medians.items()}
    draw(rates, {kind.name: kind.exactly_once for kind in CONTESTANTS}, path)
    figures = {name: [asdict(run) for run in runs] for name, runs in outcomes.items()}
    document = {"readings": load.readings, "series": load.series, "runs": figures}
    path.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
