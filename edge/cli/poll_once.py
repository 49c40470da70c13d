"""`python -m edge poll-once CONFIG`: what the sources say, once."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from edge.cli.command import FAILURE, OK, Command, load, plain, print_table, takes_config
from edge.errors import SourceError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from contract.datatypes import Value
    from edge.polling import Poll
    from edge.sources import SourceConfig


def _add_arguments(parser: ArgumentParser) -> None:
    takes_config(parser)
    parser.add_argument("--source", metavar="NAME", help="this source alone")


def _poll_once(args: Namespace) -> int:
    config = load(args.config)
    chosen = [source for source in config.sources if args.source in {None, source.name}]
    if not chosen:
        names = ", ".join(source.name for source in config.sources)
        raise ConfigError(f"--source: found {args.source!r}, allowed: {names}")
    return asyncio.run(_poll_all(chosen))


async def _poll_all(sources: Sequence[SourceConfig]) -> int:
    """Polls and prints; fails when one of the sources did."""
    from edge.clock import AnchoredClock  # noqa: PLC0415 - as is Poller, needed here alone
    from edge.polling import Poller  # noqa: PLC0415 - heavy: loaded where it is used

    clock = AnchoredClock()
    pollers = [Poller(source, lambda _poll: None, clock.now_ms) for source in sources]
    code = OK
    rows = [("metric", "value", "quality", "sampled at (UTC)")]
    results = await asyncio.gather(*(poller.poll_once() for poller in pollers), return_exceptions=True)
    for source, result in zip(sources, results, strict=True):
        match result:
            case SourceError():
                code = FAILURE
                print(plain(f"{source.name}: {result}"), file=sys.stderr)
            case TimeoutError():
                code = FAILURE
                print(f"{source.name}: no answer within {source.timeout_s:g} s", file=sys.stderr)
            case BaseException():
                raise result
            case _:
                rows += _poll_rows(result)
    print_table(rows)
    return code


def _poll_rows(poll: Poll) -> list[tuple[str, str, str, str]]:
    rows = []
    for reading in poll.readings:
        sampled_at = datetime.fromtimestamp(reading.sampled_at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        rows.append((f"{poll.source}/{reading.metric}", _shown(reading.value), reading.quality.name, sampled_at))
    return rows


def _shown(value: Value) -> str:
    """A value for a terminal, where no picture is to be seen."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return "-" if value is None else str(value)


POLL_ONCE: Final = Command(
    "poll-once",
    "poll each source one time and print what it says; nothing is delivered",
    _add_arguments,
    _poll_once,
)
