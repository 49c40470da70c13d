"""The demo on a terminal: a snapshot in, something that rich prints out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from stack.demo.observe import Ingested, Snapshot
    from stack.demo.supervisor import Event

_SHOWN_EVENTS: Final = 6
_NOTHING: Final = "-"
_STYLES: Final = {"ok": "green", "starting": "yellow", "failing": "red"}


def screen(
    snapshot: Snapshot | None,
    restarts: Mapping[str, int],
    events: Sequence[Event],
    title: str,
    dashboards_url: str | None = None,
) -> RenderableType:
    """The whole screen; `snapshot` is None before the first look."""
    if snapshot is None:
        return Panel(Text("looking ..."), title=title)
    parts: list[RenderableType] = [_sources(snapshot), _pipeline(snapshot)]
    again = [f"{name} {count}x" for name, count in restarts.items() if count]
    if again:
        parts.append(Text("started again: " + ", ".join(again), style="yellow"))
    parts += [
        Text(f"{time.strftime('%H:%M:%S', time.localtime(e.at))} {e.text}", style="dim")
        for e in events[-_SHOWN_EVENTS:]
    ]
    dashboards = "" if dashboards_url is None else f"dashboards: {dashboards_url} - "
    return Panel(Group(*parts), title=title, subtitle=f"{dashboards}Ctrl-C stops everything")


def line(snapshot: Snapshot) -> str:
    """A snapshot in one line, for an output that is no terminal."""
    ingested = snapshot.ingested
    rates = snapshot.rates
    readings = sum(rate for name, rate in rates.items() if "/" in name)
    return (
        f"{readings:.0f} readings/s  spool {_spooled(snapshot)} batches  Kafka lag {_count(snapshot.kafka_lag)}  "
        f"rows {_count(ingested.rows)}  latency p50 {_ms(ingested.latency_p50_ms)} "
        f"p99 {_ms(ingested.latency_p99_ms)}  dead letters {_count(ingested.dead_letters)}  "
        f"bars {_count(snapshot.analysed.bars)}  anomalies {_count(snapshot.analysed.anomalies)}  "
        f"forecasts {_forecasts(snapshot)}"
    )


def _sources(snapshot: Snapshot) -> Table:
    table = Table(expand=True, box=None, header_style="bold")
    for heading, justify in (
        ("node", "left"),
        ("source", "left"),
        ("state", "left"),
        ("readings/s", "right"),
        ("spool", "right"),
        ("age", "right"),
        ("last value", "left"),
    ):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # rich's Literal
    for node, health in snapshot.nodes.items():
        if health is None:
            table.add_row(node, _NOTHING, Text("does not answer", style="red"))
            continue
        # The spool is the node's, so node and spool stand once.
        spool = f"{health['spool']['batches']} / {health['spool']['bytes'] / 1024:.0f} KiB"
        for number, (name, source) in enumerate(health["sources"].items()):
            rate = snapshot.rates.get(f"{node}/{name}")
            table.add_row(
                "" if number else node,
                name,
                Text(source["state"], style=_STYLES.get(source["state"], "")),
                _NOTHING if rate is None else f"{rate:.1f}",
                "" if number else spool,
                _age(source["last_sampled_at"]),
                _last_value(source),
            )
    return table


def _last_value(source: Mapping[str, Any]) -> str:
    if source["error"]:
        return str(source["error"])
    known = {metric: value for metric, value in source["last"].items() if value is not None}
    # A measurement says more than a switch.
    measured = [metric for metric, value in known.items() if isinstance(value, float)]
    metric = next(iter([*measured, *known]), None)
    if metric is None:
        return _NOTHING
    return f"{metric} = {known[metric]:.6g}" if measured else f"{metric} = {known[metric]}"


def _pipeline(snapshot: Snapshot) -> Table:
    table = Table(expand=True, box=None, show_header=False)
    ingested, bridge, rates, analysed = snapshot.ingested, snapshot.bridge, snapshot.rates, snapshot.analysed
    facts = [
        ("bridge", "does not answer" if bridge is None else f"{rates.get('records', 0):.1f} records/s"),
        ("in flight", _count(None if bridge is None else bridge["in_flight"])),
        ("Kafka lag", _count(snapshot.kafka_lag)),
        ("Spark job", _spark_job(snapshot.stream)),
        ("rows in TimescaleDB", f"{_count(ingested.rows)} (+{rates.get('rows', 0):.0f}/s)"),
        ("latency p50 / p99", f"{_ms(ingested.latency_p50_ms)} / {_ms(ingested.latency_p99_ms)}"),
        ("series", _count(ingested.series)),
        ("gaps", _gaps(ingested)),
        ("dead letters", _count(ingested.dead_letters)),
        ("bars", _count(analysed.bars)),
        ("anomalies", f"{_count(analysed.anomalies)} ({_count(analysed.anomalies_open)} last)"),
        ("forecasts", _forecasts(snapshot)),
    ]
    for start in range(0, len(facts), 3):
        cells = [Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in facts[start : start + 3]]
        table.add_row(*cells)
    return table


def _gaps(ingested: Ingested) -> str:
    """How many there are of each kind."""
    told = f"{_count(ingested.gaps_declared)} declared, {_count(ingested.gaps_open)} open"
    return f"{told}, {_count(ingested.gaps_given_up)} given up" if ingested.gaps_given_up else told


def _forecasts(snapshot: Snapshot) -> str:
    """How many, here and on devices, and how good; or that there are no models."""
    analysed = snapshot.analysed
    if snapshot.stream is not None and snapshot.stream.get("forecasting") is None:
        return "no models: make models"
    skill = "" if analysed.mase is None else f", error {analysed.mase:.2f} of naive's"
    return f"{_count(analysed.forecasts_cloud)} + {_count(analysed.forecasts_edge)} on devices{skill}"


def _spark_job(stream: Mapping[str, Any] | None) -> str:
    if stream is None:
        return "does not answer"
    away = [name for name in ("database", "kafka") if stream[name] != "ok"]
    return ", ".join(f"{name} away" for name in away) or str(stream["state"])


def _spooled(snapshot: Snapshot) -> str:
    known = [health["spool"]["batches"] for health in snapshot.nodes.values() if health]
    return str(sum(known)) if known else _NOTHING


def _count(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f}"


def _ms(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f} ms"


def _age(sampled_at_ms: int | None) -> str:
    return _NOTHING if sampled_at_ms is None else f"{max(time.time() - sampled_at_ms / 1000, 0):.1f} s"
