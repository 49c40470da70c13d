"""`python -m edge status CONFIG`: how the agent on this machine fares, for a technician at a terminal."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from contract.config import ConfigError, read_config
from edge.cli.command import FAILURE, OK, Command, plain, print_table, shown_bytes
from edge.config import AgentConfig
from edge.health.page import LOOPBACK
from edge.lock import is_used

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping, Sequence

_TIMEOUT_S: Final = 5.0
_MAX_PAGE_BYTES: Final = 16 << 20
_COLOURS: Final = {"ok": "32", "starting": "33", "waiting": "33", "failing": "31;1"}
_MODEL_FAULTS: Final = frozenset({"failing", "refused", "quarantined"})
_UPDATE_FAULTS: Final = frozenset({"refused", "rolled_back"})
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
        _tell(f"the agent does not answer: {exc}")
        if config is not None:
            _print_traces(config)
        return FAILURE
    if args.json:
        print(json.dumps(report, indent=2))
    try:
        problems = list(_problems(report))
        if not args.json:
            _print(report, problems)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        print(f"this page cannot be understood, is its agent of another version? --json prints it as it is: {exc!r}")
        return FAILURE
    return FAILURE if problems else OK


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
    uplink, spool = report["uplink"], report["spool"]
    for part in report["stuck"]:
        yield f"{part} does not go on"
    if not uplink["connected"]:
        yield f"nothing is delivered: {uplink['error'] or 'it is still connecting'}"
    elif uplink["away"]:
        yield "the broker is there, but nobody confirms what is sent: look at the bridge and Kafka"
    if (report.get("identity") or {}).get("error"):
        yield report["identity"]["error"]
    if spool["error"]:
        yield f"spool: {spool['error']}"
    if spool["set_aside"]:
        yield f"spool: {spool['set_aside']} spoilt files lie in state_dir; delete them when you have seen them"
    if report["clock"]["state"] == "waiting":
        yield report["clock"]["explanation"]
    yield from _faults(report)


def _faults(report: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with sources and models."""
    for name, source in report["sources"].items():
        if source["state"] == "failing":
            yield f"source {name}: {source['error']}"
    for name, model in _models(report).items():
        if model["state"] in _MODEL_FAULTS:
            yield f"model {name} is {model['state']}: {model['reason']}"
    for news in _updates(report):
        if news["state"] in _UPDATE_FAULTS:
            done = news["state"].replace("_", " ")
            yield f"update {_title(news)} to {news['wanted']} was {done}: {news['reason']}"


def _models(report: Mapping[str, Any]) -> Mapping[str, Any]:
    models: Mapping[str, Any] = report["models"]["models"]
    return models


def _updates(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """How it stands with what comes as updates; an agent of before them says nothing."""
    news: Sequence[Mapping[str, Any]] = (report.get("updates") or {}).get("news", ())
    return news


def _title(news: Mapping[str, Any]) -> str:
    return news["kind"] if news["kind"] == news["name"] else f"{news['kind']} {news['name']}"


def _print(report: Mapping[str, Any], problems: Sequence[str]) -> None:
    process, uplink, now_ms = report["process"], report["uplink"], report["clock"]["now"]
    _tell(
        f"node {report['node']}, version {report['version']}, up for {_span(report['uptime_s'])}, "
        f"{shown_bytes(process['memory_bytes'])} of memory"
    )
    _tell(f"clock   {report['clock']['explanation']}")
    works = uplink["connected"] and not uplink["away"]
    state = "delivering" if works else "not delivering"
    away = ", what is read is kept for replay" if uplink["away"] else ""
    on_line = f", {uplink['unacknowledged']} batches on their way"
    print(f"uplink  {_coloured(state, 'ok' if works else 'failing')}{away}{on_line}")
    if report.get("identity") is not None:
        _print_identity(report["identity"], now_ms)
    _print_spool(report["spool"], now_ms)
    _print_sources(report["sources"], now_ms)
    if models := _models(report):
        print()
        _print_models(models, now_ms)
    if news := _updates(report):
        print()
        _print_updates(news)
        if refusal := report["updates"]["refusal"]:
            _tell(f"not taken at all: {report['updates']['refused']}, the last because {refusal}")
    if problems:
        print()
    for problem in problems:
        print(_coloured(f"! {plain(problem)}", "failing"))


def _print_identity(identity: Mapping[str, Any], now_ms: int) -> None:
    """Until when the certificate is good; in how much time it is renewed, or why not, stands among the problems."""
    if identity["not_after"] is None:
        _tell("identity none yet")
        return
    until = datetime.fromtimestamp(identity["not_after"] / _MS_PER_S, UTC)
    left_s, renewed_in_s = ((identity[at] - now_ms) / _MS_PER_S for at in ("not_after", "renewed_from"))
    left = f"{_span(left_s)} more" if left_s > 0 else "which is over"
    renewed = f", renewed in {_span(renewed_in_s)}" if renewed_in_s > 0 else ", to be renewed now"
    _tell(f"identity {identity['node']} until {until:%Y-%m-%d %H:%M} UTC, {left}{renewed if left_s > 0 else ''}")


def _print_spool(spool: Mapping[str, Any], now_ms: int) -> None:
    lost = "".join(f", {spool[what]} {what}" for what in ("buffered", "undated", "evicted", "dropped") if spool[what])
    left = "" if spool["outage_left_s"] is None else f", which holds an outage of {_span(spool['outage_left_s'])} more"
    size = "?" if spool["bytes"] is None else shown_bytes(spool["bytes"])
    print(f"spool   {size} of {shown_bytes(spool['max_bytes'])}{left}{lost}\n")
    rows = [("lane", "batches", "size", "oldest")]
    rows += [
        (lane, f"{content['batches']:,}", shown_bytes(content["bytes"]), _age(content["oldest_at"], now_ms))
        for lane, content in spool["lanes"].items()
    ]
    print_table(rows)
    print()


def _print_sources(sources: Mapping[str, Any], now_ms: int) -> None:
    rows = [("source", "state", "last reading", "polls", "failed", "skipped", "held back")]
    rows += [
        (
            name,
            source["state"],
            _age(source["last_sampled_at"], now_ms),
            f"{source['polls']:,}",
            f"{source['failures']:,}",
            f"{source['skipped_ticks']:,}",
            f"{source['suppressed']:,}",
        )
        for name, source in sources.items()
    ]
    print_table(rows, _paint_state)
    # What is 0 or empty is no news.
    told = {
        name: [f"{key} {_number(v)}" for key, v in source["details"].items() if v] for name, source in sources.items()
    }
    if any(told.values()):
        print()
    for name, details in told.items():
        if details:
            _tell(f"{name}: {', '.join(details)}")


def _print_models(models: Mapping[str, Any], now_ms: int) -> None:
    rows = [("model", "state", "last result", "results", "failed", "version", "form")]
    rows += [
        (
            name,
            model["state"],
            _age(model["last_result_at"], now_ms),
            f"{model['results']:,}",
            f"{model['failed']:,}",
            str(model["version"] or "-"),
            str(model["form"] or "-"),
        )
        for name, model in models.items()
    ]
    print_table(rows, _paint_state)


def _print_updates(found: Sequence[Mapping[str, Any]]) -> None:
    rows = [("update of", "running", "wanted", "state", "because")]
    rows += [
        (
            _title(news),
            str(news["running"] or "-"),
            str(news["wanted"] or "-"),
            str(news["state"] or "-").replace("_", " "),
            str(news["reason"] or "-"),
        )
        for news in found
    ]
    print_table(rows)


def _paint_state(row: Sequence[str], cell: str) -> str:
    state = row[1]
    return _coloured(cell, "failing" if state in _MODEL_FAULTS else state) if cell.strip() == state else cell


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


def _tell(text: str) -> None:
    print(plain(text))


def _coloured(text: str, state: str) -> str:
    if state not in _COLOURS or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_COLOURS[state]}m{text}\x1b[0m"


STATUS: Final = Command(
    "status", "say how the agent on this machine fares; exit code 1 when something is wrong", _add_arguments, _status
)
