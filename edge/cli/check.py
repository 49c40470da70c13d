"""`python -m edge check CONFIG`: what a configuration means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge.cli.command import OK, Command, load, print_table, takes_config

if TYPE_CHECKING:
    from argparse import Namespace


def _check(args: Namespace) -> int:
    config = load(args.config)
    print(
        f"node {config.group}/{config.node}, broker {config.mqtt.host}:{config.mqtt.port}, state in {config.state_dir}"
    )
    rows = [("source", "type", "interval", "metrics", "readings/s at most")]
    for source in config.sources:
        count = len(source.metrics())
        kind = str(getattr(source, "type", ""))
        rows.append((source.name, kind, f"{source.interval_s:g} s", str(count), f"{count / source.interval_s:.4g}"))
    print_table(rows)
    metrics = [("metric", "type", "unit", "description")]
    for source in config.sources:
        metrics += [
            (f"{source.name}/{info.name}", info.datatype.name, info.unit or "", info.description or "")
            for info in source.metrics()
        ]
    print()
    print_table(metrics)
    return OK


CHECK: Final = Command("check", "say what the configuration means, or what is wrong with it", takes_config, _check)
