"""What a reading costs from 10 to 10,000 series and from 1 to 500 nodes, and whether memory stays where it is.

    python -m bench.scale [--rate 4000] [--seconds 60] [--plot FILE] [--quick]
    python -m bench.scale --soak 30 [--plot FILE]

Every point runs on servers of its own, at a fixed rate of readings, with the defaults of bridge and stream. A part's
cost is the CPU time of its processes between two looks, both at steady load. The first also prints what 10, 1,000 and
100,000 nodes would need at these prices (docs/sizing.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.table import Table

from bench.scale.sizing import disk, needs, prices
from bench.scale.soak import WARM_MINUTES, slope, soak
from bench.scale.sweep import measure, points
from bench.scale.system import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from bench.scale.sizing import Need, Prices
    from bench.scale.sweep import Measured

_WIDTH = 150


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it and prints it."""
    options = _parser().parse_args(arguments)
    stream: Mapping[str, Any] = yaml.safe_load(options.stream.read_text(encoding="utf-8")) if options.stream else {}
    if options.soak is not None:
        _soak(options, stream)
    else:
        _sweep(options, stream)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=4000.0, help="readings a second of all nodes together (4000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which each point is watched (60)")
    parser.add_argument("--series", type=int, nargs="*", default=[10, 100, 1000, 10_000], help="10 100 1000 10000")
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 10, 100, 500], help="1 10 100 500")
    parser.add_argument("--sizes", type=int, nargs="*", default=[30, 100], help="readings in a message (30 100)")
    parser.add_argument("--rates", type=int, nargs="*", default=[1000, 12_000], help="other rates (1000 12000)")
    parser.add_argument("--stream", type=Path, metavar="YAML", help="more of the stream's configuration")
    parser.add_argument(
        "--soak",
        type=float,
        nargs="?",
        const=30.0,
        metavar="MINUTES",
        help=f"watch memory instead (30 minutes, after {WARM_MINUTES:g} of warm-up)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as PNG or SVG")
    parser.add_argument("--quick", action="store_true", help="few and short points: whether it works, not how well")
    return parser


def _sweep(options: argparse.Namespace, stream: Mapping[str, Any]) -> None:
    if options.quick:
        options.series, options.nodes, options.sizes, options.rates = [10, 1000], [100], [100], [2000]
        options.rate, options.seconds = min(options.rate, 1000.0), min(options.seconds, 10.0)
    measured = []
    for point in points(options.rate, options.series, options.nodes, options.sizes, options.rates):
        measured.append(measure(point, options.seconds, stream))
        print(f"{point.varied} {point.value}: {measured[-1].ours_per_million:.1f} CPU s/M readings", file=sys.stderr)
    console = Console(width=_WIDTH)
    console.print(_costs(measured))
    for varied in ("series", "nodes"):
        _say_growth([m for m in measured if m.point.varied == varied], varied)
    found, size = prices(measured), disk(measured)
    console.print(_prices(found))
    print(
        f"on disk: {size.table:.0f} bytes a reading in the table with its index, {size.kafka:.0f} in Kafka, compressed"
    )
    console.print(_needs(needs(found, size, readings=20, interval_s=1.0)))
    if options.plot is not None:
        from bench.scale.figure import draw_costs  # noqa: PLC0415 - a second that a run without a figure need not wait

        draw_costs(measured, options.plot)


def _say_growth(measured: Sequence[Measured], varied: str) -> None:
    if len(measured) > 1:
        first, last = measured[0], measured[-1]
        ratio = last.ours_per_million / first.ours_per_million
        counts = f"{last.point.value:,} {varied} as with {first.point.value:,}"
        print(f"a reading costs {ratio:.2f} times as much with {counts}")


def _costs(measured: Sequence[Measured]) -> Table:
    table = Table(title="CPU-seconds per million readings (and memory in MiB, PSS)")
    for heading in ("varied", "", "readings/s", *PARTS, "ours"):
        table.add_column(heading, justify="left" if heading == "varied" else "right")
    for m in measured:
        parts = (f"{m.per_million(part):.1f} ({m.pss_mib[part]:.0f})" for part in PARTS)
        rate = f"{m.readings / m.seconds:,.0f}"
        table.add_row(m.point.varied, f"{m.point.value:,}", rate, *parts, f"{m.ours_per_million:.1f}")
    return table


def _prices(found: Mapping[str, Prices]) -> Table:
    table = Table(title="What fits all of these")
    for heading in ("", "% of a core, idle", "us a message", "us a reading"):
        table.add_column(heading, justify="right" if heading else "left")
    for part, price in found.items():
        row = (f"{100 * price.idle_share:.1f}", f"{price.us_a_message:.0f}", f"{price.us_a_reading:.1f}")
        table.add_row(part, *row)
    return table


def _needs(found: Sequence[Need]) -> Table:
    table = Table(
        title="20 readings a second in one message from each node: cores that are busy, and what that asks for"
    )
    columns = ("nodes", "readings/s", *PARTS, "bridges", "streams", "executor cores", "partitions", "table", "Kafka")
    for heading in columns:
        table.add_column(heading, justify="right")
    for need in found:
        cores = (
            f"[b]{value:.2f}[/b]" if part == need.busiest else f"{value:.2f}" for part, value in need.cores.items()
        )
        counts = (f"{each:,}" for each in (need.bridges, need.streams, need.executor_cores, need.partitions))
        volumes = (f"{gb:,.1f} GB/day" for gb in (need.table_gb, need.kafka_gb))
        table.add_row(f"{need.nodes:,}", f"{need.readings_per_s:,.0f}", *cores, *counts, *volumes)
    return table


def _soak(options: argparse.Namespace, stream: Mapping[str, Any]) -> None:
    samples = soak(options.soak, options.rate, stream)
    over = f"{options.soak:g} minutes, after {WARM_MINUTES:g} of warm-up"
    table = Table(title=f"Memory at {options.rate:,.0f} readings/s over {over}")
    for heading in ("", "PSS MiB", "MiB an hour", "RSS MiB", "MiB an hour (RSS)", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for part, found in samples.items():
        pss, rss = slope(found[:, 0], found[:, 1]), slope(found[:, 0], found[:, 2])
        rows = (f"{each.mean_mib:.0f}" for each in (pss, rss))
        slopes = (f"{each.mib_per_h:+.1f} +- {each.error:.1f}" for each in (pss, rss))
        mean, growth, mean_rss, growth_rss = next(rows), next(slopes), next(rows), next(slopes)
        table.add_row(part, mean, growth, mean_rss, growth_rss, "flat" if pss.flat else "GROWS")
    Console(width=_WIDTH).print(table)
    if options.plot is not None:
        from bench.scale.figure import draw_soak  # noqa: PLC0415 - as above

        draw_soak(samples, options.plot)


if __name__ == "__main__":
    sys.exit(main())
