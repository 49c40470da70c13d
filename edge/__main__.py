"""The command line: `python -m edge run|check|poll-once CONFIG`; exit code 1 is failure, 2 wrong usage or config."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError, read_config
from edge.config import AgentConfig
from edge.errors import EdgeError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.polling import Poll
    from edge.sources import SourceConfig

_OK: Final = 0
_FAILURE: Final = 1
_WRONG_USE: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    if not args.verbose:
        for chatty in ("httpx", "httpcore", "pymodbus"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        config = read_config(args.config, AgentConfig)
        _require_password(config, args.config)
        return _COMMANDS[args.command](config, args)
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return _WRONG_USE
    except EdgeError as exc:
        print(f"edge: {exc}", file=sys.stderr)
        return _FAILURE


def _require_password(config: AgentConfig, path: Path) -> None:
    try:
        config.mqtt.password()
    except ConfigError as exc:
        raise ConfigError(f"{path}: mqtt.{exc}") from exc


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edge", description="Headwater's agent on the device.")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell every detail")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("run", "poll and deliver until SIGTERM or SIGINT; a second signal stops at once"),
        ("check", "say what the configuration means, or what is wrong with it"),
        ("poll-once", "poll each source one time and print what it says; nothing is delivered"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("config", type=Path, metavar="CONFIG", help="the agent's YAML file")
        if name == "poll-once":
            command.add_argument("--source", metavar="NAME", help="this source alone")
    return parser


def _run(config: AgentConfig, _args: argparse.Namespace) -> int:
    asyncio.run(_run_until_stopped(config))
    return _OK


async def _run_until_stopped(config: AgentConfig) -> None:
    from edge.agent import Agent  # noqa: PLC0415 - paho and SQLite are no business of the other commands

    agent = Agent(config)
    work = asyncio.create_task(agent.run(), name="agent")
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            agent.stop()
        else:
            work.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    with contextlib.suppress(asyncio.CancelledError):
        await work


def _check(config: AgentConfig, _args: argparse.Namespace) -> int:
    print(
        f"node {config.group}/{config.node}, broker {config.mqtt.host}:{config.mqtt.port}, state in {config.state_dir}"
    )
    rows = [("source", "type", "interval", "metrics", "readings/s at most")]
    for source in config.sources:
        count = len(source.metrics())
        kind = str(getattr(source, "type", ""))
        rows.append((source.name, kind, f"{source.interval_s:g} s", str(count), f"{count / source.interval_s:.4g}"))
    _print_table(rows)
    metrics = [("metric", "type", "unit", "description")]
    for source in config.sources:
        metrics += [
            (f"{source.name}/{info.name}", info.datatype.name, info.unit or "", info.description or "")
            for info in source.metrics()
        ]
    print()
    _print_table(metrics)
    return _OK


def _poll_once(config: AgentConfig, args: argparse.Namespace) -> int:
    chosen = [source for source in config.sources if args.source in {None, source.name}]
    if not chosen:
        names = ", ".join(source.name for source in config.sources)
        raise ConfigError(f"--source: found {args.source!r}, allowed: {names}")
    return asyncio.run(_poll_all(chosen))


async def _poll_all(sources: Sequence[SourceConfig]) -> int:
    """Polls and prints; fails when one of the sources did."""
    from edge.clock import AnchoredClock  # noqa: PLC0415 - as is Poller, needed here alone
    from edge.polling import Poller  # noqa: PLC0415  # heavy: loaded where it is used

    clock = AnchoredClock()
    pollers = [Poller(source, lambda _poll: None, clock.now_ms) for source in sources]
    code = _OK
    rows = [("metric", "value", "quality", "sampled at (UTC)")]
    results = await asyncio.gather(*(poller.poll_once() for poller in pollers), return_exceptions=True)
    for source, result in zip(sources, results, strict=True):
        match result:
            case SourceError():
                code = _FAILURE
                print(f"{source.name}: {result}", file=sys.stderr)
            case TimeoutError():
                code = _FAILURE
                print(f"{source.name}: no answer within {source.timeout_s:g} s", file=sys.stderr)
            case BaseException():
                raise result
            case _:
                rows += _poll_rows(result)
    _print_table(rows)
    return code


def _poll_rows(poll: Poll) -> list[tuple[str, str, str, str]]:
    from datetime import UTC, datetime  # noqa: PLC0415 - only here

    rows = []
    for reading in poll.readings:
        sampled_at = datetime.fromtimestamp(reading.sampled_at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        value = "-" if reading.value is None else str(reading.value)
        rows.append((f"{poll.source}/{reading.metric}", value, reading.quality.name, sampled_at))
    return rows


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


_COMMANDS: Final = {"run": _run, "check": _check, "poll-once": _poll_once}

if __name__ == "__main__":
    sys.exit(main())
