"""`python -m simulators`: run simulators, make an edge configuration of the plant, write history, reconcile."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from contract.config import ConfigError, read_config
from simulators.camera.demand import demand_incident
from simulators.errors import SimulatorError
from simulators.fleet.command import add_fleet
from simulators.history.command import add_history
from simulators.plant.line_config import LineConfig
from simulators.reconcile_report import as_json, show
from simulators.reconcile_targets import Targets, reconcile_all
from simulators.scenario import Scenario
from simulators.serve import chosen, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEMO = Path(__file__).parent / "scenarios" / "demo.yaml"
_DSN = "HEADWATER_DSN"
_EPILOG = f"""\
examples:
  python -m simulators serve {_DEMO.relative_to(Path(__file__).parents[1])} --addresses addresses.json
  python -m simulators points scenario.yaml plant --unit 1 --unit 2
  python -m simulators fault addresses.json plant leak tank=1 duration_s=30
  python -m simulators counts addresses.json bench --reset
  python -m simulators reconcile --targets targets.yaml
  python -m simulators fleet --nodes 500 --broker 127.0.0.1:1883 --duration 60 --ledger fleet.jsonl
  python -m simulators history plant --seed 1 --steps 28800 --faults --out plant.npz
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed, 2 wrong usage or configuration."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
    )
    args = _parser().parse_args(arguments)
    try:
        code: int = args.command(args)
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return 2
    except SimulatorError as exc:
        print(f"{args.name_of_command}: {exc}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulators",
        description="Seeded simulators of a plant, an exchange, a weather service, cameras, and fleets of nodes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="name_of_command", metavar="COMMAND", required=True)
    _add_serve(commands.add_parser("serve", help="run the simulators of a scenario until SIGTERM or SIGINT"))
    _add_points(commands.add_parser("points", help="print a plant's points as an edge configuration has them"))
    _add_fault(
        commands.add_parser("fault", help="put a fault into a running plant or bus, or an incident before a camera")
    )
    _add_counts(commands.add_parser("counts", help="print what a running plant or bus was asked, as JSON"))
    add_fleet(commands.add_parser("fleet", help="a fleet of Sparkplug nodes on a broker"))
    add_history(commands.add_parser("history", help="hours or years of readings at once, as a file to train on"))
    _add_reconcile(commands.add_parser("reconcile", help="hold ledgers against what the database has"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", type=Path, metavar="SCENARIO.yaml", help=f"what runs; one to start from: {_DEMO}")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="run these simulators of it alone")
    parser.add_argument("--addresses", type=Path, metavar="FILE", help="written as JSON once all of them listen")
    parser.set_defaults(command=_serve)


def _add_points(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", type=Path, metavar="SCENARIO.yaml", help="a scenario with the plant or bus")
    parser.add_argument("name", metavar="NAME", help="its name there")
    parser.add_argument("--unit", type=int, action="append", metavar="ID", help="this unit alone (repeatable)")
    parser.set_defaults(command=_points)


def _add_fault(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("addresses", type=Path, metavar="ADDRESSES.json", help="the file that `serve` wrote")
    parser.add_argument("name", metavar="NAME", help="the plant's, bus's or camera's name in it")
    parser.add_argument(
        "kind", metavar="KIND", help="leak, bearing_wear, comms_error, busy, ..., intrusion, frozen, ..."
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="such as duration_s=30 tank=1 unit_id=2")
    parser.set_defaults(command=_fault)


def _add_counts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("addresses", type=Path, metavar="ADDRESSES.json", help="the file that `serve` wrote")
    parser.add_argument("name", metavar="NAME", help="the plant's or bus's name in it")
    parser.add_argument("--reset", action="store_true", help="count from here on")
    parser.set_defaults(command=_counts)


def _add_reconcile(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"The database is that of the environment variable {_DSN}. Exit code 0 only if nothing is lost, "
        "duplicated or wrong, and something of every metric is stored."
    )
    parser.add_argument("--targets", type=Path, required=True, metavar="TARGETS.yaml", help="ledgers and devices")
    parser.add_argument("--json", action="store_true", help="print JSON, not tables")
    parser.set_defaults(command=_reconcile)


def _serve(args: argparse.Namespace) -> int:
    scenario = read_config(args.scenario, Scenario)
    asyncio.run(serve(scenario, chosen(scenario, args.only), args.addresses))
    return 0


def _points(args: argparse.Namespace) -> int:
    (line,) = chosen(read_config(args.scenario, Scenario), [args.name])
    if not isinstance(line, LineConfig):
        raise SimulatorError(f"{args.name} is of type {line.type}: only a plant and a bus have points")
    found = line.units()
    for unit_id in args.unit or ():
        if unit_id not in found:
            raise ConfigError(f"--unit: found {unit_id}: allowed are {', '.join(map(str, found))}")
    units = [
        {"unit_id": unit_id, "points": [point.to_config() for point in found[unit_id]]}
        for unit_id in args.unit or found
    ]
    print(yaml.safe_dump({"units": units}, sort_keys=False, default_flow_style=None, width=200), end="")
    return 0


def _fault(args: argparse.Namespace) -> int:
    settings = _settings(args.settings)
    if (url := _camera_url(args.addresses, args.name)) is not None:
        print(demand_incident(url, args.kind, settings))
        return 0
    answer = _ask(_control_address(args.addresses, args.name), {"kind": args.kind, **settings})
    if "error" in answer:
        raise SimulatorError(answer["error"])
    print(answer["label"])
    return 0


def _counts(args: argparse.Namespace) -> int:
    asked = {"counts": "reset" if args.reset else "keep"}
    print(json.dumps(_ask(_control_address(args.addresses, args.name), asked), indent=2))
    return 0


def _reconcile(args: argparse.Namespace) -> int:
    targets = read_config(args.targets, Targets)
    dsn = os.environ.get(_DSN)
    if not dsn:
        raise ConfigError(f"{_DSN}: is not set in the environment: it says which database to ask")
    results = reconcile_all(dsn, targets.root)
    if args.json:
        print(json.dumps(as_json(results), indent=2))
    else:
        show(results, Console())
    return 0 if all(result.is_clean for result in results) else 1


def _control_address(path: Path, name: str) -> tuple[str, int]:
    found = _running(path).get(name)
    if not isinstance(found, dict):
        raise SimulatorError(f"{path}: nothing called {name!r} runs: allowed are {', '.join(_running(path)) or 'none'}")
    try:
        return found["host"], found["control_port"]
    except KeyError as exc:
        raise SimulatorError(f"{name} cannot be asked: only a plant and a bus have a control port") from exc


def _camera_url(path: Path, name: str) -> str | None:
    found = _running(path).get(name)
    return str(found["url"]) if isinstance(found, dict) and {"url", "mjpeg"} <= found.keys() else None


def _running(path: Path) -> dict[str, Any]:
    """The addresses in a file that `serve` wrote."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise SimulatorError(f"{path}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    return found if isinstance(found, dict) else {}


def _settings(words: Sequence[str]) -> dict[str, Any]:
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not (key and equals):
            raise ConfigError(f"found {word!r}, allowed: KEY=VALUE, such as duration_s=30")
    return settings


def _ask(address: tuple[str, int], question: dict[str, Any]) -> dict[str, Any]:
    try:
        with socket.create_connection(address, timeout=5) as connection, connection.makefile("rwb") as lines:
            lines.write(json.dumps(question).encode() + b"\n")
            lines.flush()
            answer: dict[str, Any] = json.loads(lines.readline())
            return answer
    except (OSError, ValueError) as exc:
        raise SimulatorError(f"no answer from {address[0]}:{address[1]}: {exc}") from exc


if __name__ == "__main__":
    sys.exit(main())
