"""`python -m edge check CONFIG`: what a configuration means, what it will cost, and what this machine lacks for it."""

from __future__ import annotations

import asyncio
import math
import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError, read_config
from edge.cli.command import FAILURE, OK, Command, plain, print_table, shown_bytes, takes_config
from edge.cli.preflight import lacks, places
from edge.config import AgentConfig
from edge.errors import ModelError
from edge.estimate import costs, disk_room_bytes, outage_hours
from edge.lane import Lane
from edge.models.foreseen import explain, foreseen
from edge.models.telling import metrics_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from edge.cli.preflight import Place
    from edge.models import ModelConfig
    from edge.reading import MetricInfo
    from edge.sources import SourceConfig

_REACHED_WITHIN_S: Final = 3.0


def _add_arguments(parser: ArgumentParser) -> None:
    takes_config(parser)
    parser.add_argument(
        "--elsewhere", action="store_true", help="it is for another machine: do not look for files and secrets here"
    )
    parser.add_argument(
        "--outage", type=float, metavar="HOURS", help="fail where the spool does not hold an outage as long as this"
    )
    parser.add_argument("--online", action="store_true", help="connect to the broker and to every source that has TCP")


def _check(args: Namespace) -> int:
    if args.outage is not None and not 0 <= args.outage < math.inf:
        raise ConfigError(f"--outage: found {args.outage:g}, allowed: hours, 0 or more")
    config = read_config(args.config, AgentConfig)
    if not args.elsewhere and (missing := lacks(config)):
        raise ConfigError("\n".join(f"{args.config}: {line}" for line in missing))
    _print_node(config)
    _print_costs(config)
    if not args.elsewhere and (room_bytes := disk_room_bytes(config)) < config.spool.max_bytes:
        print(f"spool: but its disk has no more than {shown_bytes(room_bytes)} left for it")
    for source in config.sources:
        _print_source(source)
    refused = [] if args.elsewhere else [fault for model in config.models if (fault := _print_model(config, model))]
    failures = [*refused, *_too_small_a_spool(config, args.outage), *(_unreached(config) if args.online else ())]
    _print_metrics(config)
    for failure in failures:
        print(f"edge: {failure}", file=sys.stderr)
    return FAILURE if failures else OK


def _print_node(config: AgentConfig) -> None:
    mqtt = config.broker
    how = f"{'TLS' if mqtt.tls else 'no TLS'}, profile {mqtt.profile}"
    print(f"node {config.group}/{config.node}, broker {mqtt.host}:{mqtt.port} ({how}), state in {config.state_dir}")
    page = "not served" if config.health is None else f"http://127.0.0.1:{config.health.port}/healthz"
    print(f"health page {page}")
    if config.update is not None:
        by = ", ".join(map(str, config.update.key_files)) or "the key that came with the identity"
        print(f"updates are taken when signed by {by}, and confirmed within {config.update.confirm_s:g} s")
    print()


def _print_costs(config: AgentConfig) -> None:
    kinds = {source.name: str(getattr(source, "type", "")) for source in config.sources}
    kinds |= {model.name: "model" for model in config.models}
    rows = [("source", "type", "interval", "metrics", "readings/s at most", "a poll", "a day on the line")]
    per_day = 0.0
    for cost in costs(config):
        per_day += cost.line_bytes_per_day
        rows.append(
            (
                cost.device or "(the node)",
                kinds.get(cost.device, ""),
                f"{cost.interval_s:g} s",
                str(cost.metrics),
                f"{cost.metrics / cost.interval_s:.4g}",
                shown_bytes(cost.poll_bytes),
                shown_bytes(cost.line_bytes_per_day),
            )
        )
    rows.append(("all", "", "", "", "", "", shown_bytes(per_day)))
    print_table(rows)
    print()
    print(
        f"spool: {shown_bytes(config.spool.max_bytes)} hold an outage of about {outage_hours(config):.3g} h; "
        "then images, replay and live readings go, the oldest first, and are declared as gaps"
    )


def _print_source(source: SourceConfig) -> None:
    lines = [*source.explain(), *_reporting(source)]
    alarms = [metric.name for metric in source.metrics() if metric.lane is Lane.ALARM]
    writable = [metric.name for metric in source.metrics() if metric.writable]
    if alarms:
        lines.append(f"sent before all else: {_some(alarms)}")
    if writable:
        lines.append(f"commands may write: {_some(writable)}")
    if lines:
        print(f"\n{source.name}")
        for line in lines:
            print(f"  {plain(line)}")


def _print_model(config: AgentConfig, model: ModelConfig) -> str | None:
    """Prints what it is, or returns why it would be refused."""
    try:
        lines = explain(config, model)
    except ModelError as exc:
        return f"model {model.name}: {exc}"
    print(f"\n{model.name}")
    for line in lines:
        print(f"  {plain(line)}")
    return None


def _reporting(source: SourceConfig) -> Iterator[str]:
    left = [metric.name for metric in source.metrics() if metric.lane is Lane.LIVE]
    for rule in source.report:
        matched = [name for name in left if fnmatchcase(name, rule.metrics)]
        left = [name for name in left if name not in matched]
        band = "every change" if not (rule.deadband or rule.deadband_percent) else f"changes over {rule.deadband:g}"
        if rule.deadband_percent:
            band = f"changes over {rule.deadband_percent:g} %"
        of = f"{len(matched)} metrics" if matched else "NO metric"
        yield f"report {rule.metrics}: {band}, at least each {rule.max_silence_s:g} s, of {of}"


def _too_small_a_spool(config: AgentConfig, wanted_h: float | None) -> Iterator[str]:
    held_h = outage_hours(config)
    if wanted_h is not None and wanted_h > held_h:
        needed = config.spool.max_bytes * wanted_h / held_h
        yield f"an outage of {wanted_h:g} h takes {needed:.0f} bytes: spool.max_bytes is {config.spool.max_bytes}"


def _unreached(config: AgentConfig) -> list[str]:
    """Connects to all places at once; a line for each that cannot be reached."""
    print()
    return asyncio.run(_reach_all(places(config)))


async def _reach_all(of_config: list[Place]) -> list[str]:
    faults = await asyncio.gather(*map(_reach, of_config))
    for (where, host, port), fault in zip(of_config, faults, strict=True):
        print(f"{where}: {host}:{port} {fault or 'answers'}")
    return [
        f"{where}: {host}:{port} {fault}" for (where, host, port), fault in zip(of_config, faults, strict=True) if fault
    ]


async def _reach(place: Place) -> str | None:
    _, host, port = place
    try:
        async with asyncio.timeout(_REACHED_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"does not answer within {_REACHED_WITHIN_S:g} s"
    except OSError as exc:
        return f"cannot be reached: {exc.strerror or exc}"
    writer.close()
    return None


def _print_metrics(config: AgentConfig) -> None:
    rows = [("metric", "type", "unit", "description")]
    rows += [_metric_row(source.name, info) for source in config.sources for info in source.metrics()]
    rows += [_metric_row(model.name, info) for model, manifest in foreseen(config) for info in metrics_of(manifest)]
    print()
    print_table(rows)


def _metric_row(source: str, info: MetricInfo) -> tuple[str, str, str, str]:
    return f"{source}/{info.name}", info.datatype.name, info.unit or "", info.description or ""


def _some(names: list[str]) -> str:
    few = 8
    return ", ".join(names[:few]) + (f" and {len(names) - few} more" if len(names) > few else "")


CHECK: Final = Command(
    "check", "say what the configuration means, and what is wrong with it or missing here", _add_arguments, _check
)
