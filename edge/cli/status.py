"""`python -m edge status CONFIG`: how the agent on this machine fares, for a technician at a terminal."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from contract.config import ConfigError, read_config
from edge.cli.command import FAILURE, OK, Command, print_table, shown_bytes
from edge.config import AgentConfig
from edge.health import LOOPBACK
from edge.lock import is_used

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping

_TIMEOUT_S: Final = 5.0
_MAX_PAGE_BYTES: Final = 16 << 20
_COLOURS: Final = {"ok": "32", "starting": "33", "failing": "31;1"}
_MS_PER_S: Final = 1000
_SPANS: Final = (("d", 86_400), ("h", 3600), ("min", 60))


def _add_arguments(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="the agent's YAML file")
    which.add_argument("--url", metavar="URL", help="its health page instead, such as http://127.0.0.1:8081")
    parser.add_argument("--json", action="store_true", help="print what the page says as it is")


def _status(args: Namespace) -> int:
    config = None if args.config is None else read_config(args.config, AgentConfig)
    if args.url is not None and (urlsplit(args.url).scheme != "http" or not urlsplit(args.url).hostname):
        raise ConfigError(f"--url: found {args.url!r}, allowed: http://HOST:PORT")
    try:
        report = _fetch(args.url or _url_of(config))
    except (OSError, http.client.HTTPException, ValueError) as exc:
        print(f"the agent does not answer: {exc}")
        if config is not None:
            _print_traces(config)
        return FAILURE
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    return FAILURE if any(_problems(report)) else OK


def _url_of(config: AgentConfig | None) -> str:
    if config is None or config.health is None:
        raise ValueError("it serves no health page; `health: {port: 8081}` in its configuration has it serve one")
    if config.health.port == 0:
        raise ValueError("its health page has another port at each start, which its log names: give it by --url")
    return f"http://{LOOPBACK}:{config.health.port}"


def _fetch(url: str) -> dict[str, Any]:
    """What the page says, also where it says so with 503; raises OSError, HTTPException or ValueError."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or LOOPBACK, at.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        report = json.loads(connection.getresponse().read(_MAX_PAGE_BYTES))
    finally:
        connection.close()
    if not isinstance(report, dict) or not {"node", "uplink", "spool", "sources", "stuck"} <= report.keys():
        raise ValueError(f"what is served at {url} is no agent's health page")
    return report


def _problems(report: Mapping[str, Any]) -> Iterator[str]:
    """What somebody should look at."""
    for part in report["stuck"]:
        yield f"{part} does not go on"
    if not report["uplink"]["connected"]:
        yield f"nothing is delivered: {report['uplink']['error'] or 'nobody takes the births yet'}"
    if report["spool"]["error"]:
        yield f"spool: {report['spool']['error']}"
    if report["clock"]["state"] == "waiting":
        yield report["clock"]["explanation"]
    for name, source in report["sources"].items():
        if source["state"] == "failing":
            yield f"source {name}: {source['error']}"


def _print(report: Mapping[str, Any]) -> None:
    process, uplink = report["process"], report["uplink"]
    print(
        f"node {report['node']}, version {report['version']}, up for {_span(report['uptime_s'])}, "
        f"{shown_bytes(process['memory_bytes'])} of memory"
    )
    print(f"clock   {report['clock']['explanation']}")
    state = "delivering" if uplink["connected"] else "not delivering"
    away = ", what is read is kept for replay" if uplink["away"] else ""
    print(f"uplink  {_coloured(state, 'ok' if uplink['connected'] else 'failing')}{away}", end="")
    print(f", {uplink['unacknowledged']} batches on their way")
    _print_spool(report["spool"], report["clock"]["now"])
    _print_sources(report["sources"], report["clock"]["now"])
    if problems := list(_problems(report)):
        print()
    for problem in problems:
        print(_coloured(f"! {_plain(problem)}", "failing"))


def _print_spool(spool: Mapping[str, Any], now_ms: int) -> None:
    lost = "".join(f", {spool[what]} {what}" for what in ("buffered", "undated", "evicted", "dropped") if spool[what])
    aside = f", {spool['set_aside']} spoilt files set aside" if spool["set_aside"] else ""
    left = "" if spool["outage_left_s"] is None else f", which holds an outage of {_span(spool['outage_left_s'])} more"
    size = "?" if spool["bytes"] is None else shown_bytes(spool["bytes"])
    print(f"spool   {size} of {shown_bytes(spool['max_bytes'])}{left}{lost}{aside}\n")
    rows = [("lane", "batches", "size", "oldest")]
    rows += [
        (lane, f"{content['batches']:,}", shown_bytes(content["bytes"]), _age(content["oldest_at"], now_ms))
        for lane, content in spool["lanes"].items()
    ]
    print_table(rows)
    print()


def _print_sources(sources: Mapping[str, Any], now_ms: int) -> None:
    rows = [("source", "state", "last reading", "polls", "failed", "skipped", "held back", "")]
    for name, source in sources.items():
        # What is 0 or empty is no news.
        details = ", ".join(f"{key} {_number(value)}" for key, value in source["details"].items() if value)
        said = source["error"] or details
        rows.append(
            (
                name,
                source["state"],
                _age(source["last_sampled_at"], now_ms),
                f"{source['polls']:,}",
                f"{source['failures']:,}",
                f"{source['skipped_ticks']:,}",
                f"{source['suppressed']:,}",
                _plain(str(said)),
            )
        )
    print_table(rows, lambda row, cell: _coloured(cell, row[1].strip()) if cell.strip() == row[1].strip() else cell)


def _print_traces(config: AgentConfig) -> None:
    """What can be seen of an agent that does not answer."""
    if is_used(config.state_dir):
        print(f"but one is at work in {config.state_dir}: it starts, ends, hangs, or serves another page")
    else:
        print(f"none is at work in {config.state_dir}; start one with `python -m edge run`")
    try:
        files = sorted(path for path in config.state_dir.iterdir() if path.name.startswith("spool-"))
    except OSError as exc:
        print(f"{config.state_dir} cannot be looked at: {exc.strerror}")
        return
    for path in files:
        found = path.stat()
        changed = _span(time.time() - found.st_mtime)
        print(f"  {path.name}: {shown_bytes(found.st_size)}, last changed {changed} ago")
    print("what its spool holds is delivered when it runs again" if files else "there is no spool yet")


def _age(at_ms: int | None, now_ms: int) -> str:
    return "-" if at_ms is None else f"{_span(max(0.0, (now_ms - at_ms) / _MS_PER_S))} ago"


def _span(seconds: float) -> str:
    for unit, length_s in _SPANS:
        if seconds >= length_s:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds:.2g} s"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """A device's own words, without what would command a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _coloured(text: str, state: str) -> str:
    if state not in _COLOURS or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_COLOURS[state]}m{text}\x1b[0m"


STATUS: Final = Command(
    "status", "say how the agent on this machine fares; exit code 1 when something is wrong", _add_arguments, _status
)
