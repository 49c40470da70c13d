"""`python -m simulators fleet`."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract.config import ConfigError, parse_config, read_config
from simulators.fleet.config import FleetConfig
from simulators.fleet.roster import roster
from simulators.ledger import Ledger, Match

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from simulators.fleet.run import Outcome
    from simulators.fleet.world import Note

_DRAIN_S: Final = 60.0
_SHOWN: Final = 10


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = (
        "Sparkplug nodes as our agents are, each with a connection of its own. They forget a batch when the bridge "
        "says that Kafka has it. What is given here stands in place of the scenario's. Exit code 0 only if all is "
        "durable at the end."
    )
    parser.add_argument("--scenario", type=Path, metavar="FLEET.yaml", help="the fleet, and what befalls it")
    parser.add_argument("--nodes", type=int, metavar="N", help="how many (50)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all that is drawn (1)")
    parser.add_argument("--group", metavar="ID", help="their Sparkplug group (fleet)")
    parser.add_argument("--rate", type=float, metavar="R", help="readings a second of all nodes together")
    parser.add_argument("--broker", metavar="HOST:PORT", help="the MQTT broker (127.0.0.1:1883)")
    for option, what in (("ca", "authorities to trust"), ("cert", "certificate"), ("key", "key of the certificate")):
        parser.add_argument(
            f"--{option}", type=Path, metavar="PEM", help=f"TLS: {what}; {{node}} in it is each node's name"
        )
    parser.add_argument("--client-id", metavar="ID", help="each node's client id ({group}-{node})")
    parser.add_argument("--username", metavar="NAME", help="the same for all nodes")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="its first line is the password")
    parser.add_argument("--primary-host", metavar="ID", help="host whose STATE is waited for")
    parser.add_argument("--duration", type=float, metavar="S", help="sample for so long (until SIGTERM or Ctrl-C)")
    parser.add_argument(
        "--drain", type=float, default=_DRAIN_S, metavar="S", help="then deliver for so long at most (60)"
    )
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="note every sample there, for `reconcile`")
    parser.add_argument("--dry-run", action="store_true", help="print who would be there, and connect nobody")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=run_command)


def run_command(args: argparse.Namespace) -> int:
    """Runs the fleet; the exit code."""
    config = _config(args)
    if args.dry_run:
        members = [asdict(member) for member in roster(config)]
        _print(args, {"readings_per_s": config.readings_per_s, "nodes": members}, [_spelt(one) for one in members])
        return 0
    outcome = _run(config, args)
    kept = {"kept": outcome.kept, "unfinished": outcome.unfinished}
    document = {"seconds": round(outcome.seconds, 1), **asdict(outcome.counts), **kept}
    _print(args, document, [f"{key.replace('_', ' ')}: {value}" for key, value in asdict(outcome.counts).items()])
    if outcome.kept:
        names = ", ".join(outcome.unfinished[:_SHOWN])
        sys.stderr.write(f"{outcome.kept} batches of {len(outcome.unfinished)} nodes are not durable: {names}\n")
    return 1 if outcome.kept else 0


def _run(config: FleetConfig, args: argparse.Namespace) -> Outcome:
    from simulators.fleet.run import run_fleet  # noqa: PLC0415 - loads paho, which the other commands do without

    with ExitStack() as ends:
        note: Note = _pass_over
        if args.ledger is not None:
            header = {"simulator": "fleet", "seed": config.seed, "match": Match.SOURCE_TIME, "group": config.group}
            note = ends.enter_context(Ledger(args.ledger, {**header, "device": config.device})).sampled
        return asyncio.run(run_fleet(config, note, duration_s=args.duration, drain_s=args.drain))


def _pass_over(node: str, values: Mapping[str, float], source_at: int, *, promised: bool = True) -> None:
    """Where there is no ledger."""


def _config(args: argparse.Namespace) -> FleetConfig:
    """The scenario's, with what the command line says in place of it; raises ConfigError."""
    for option in ("duration", "drain", "rate"):
        if (found := getattr(args, option)) is not None and not found > 0:
            raise ConfigError(f"--{option}: found {found:g}: allowed is more than 0")
    base = FleetConfig() if args.scenario is None else read_config(args.scenario, FleetConfig)
    document = base.model_dump()
    document.update({key: value for key in ("nodes", "seed", "group") if (value := getattr(args, key)) is not None})
    document["broker"].update(_broker(args))
    config = parse_config(document, FleetConfig, "fleet")
    if args.rate is None:
        return config
    interval_s = config.nodes * config.metrics / args.rate
    return parse_config({**document, "interval_s": interval_s}, FleetConfig, "--rate")


def _broker(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: value
        for key in ("client_id", "username", "password_file", "primary_host")
        if (value := getattr(args, key)) is not None
    }
    if args.broker is not None:
        host, _, port = args.broker.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"--broker: found {args.broker!r}, allowed: HOST:PORT")
        found |= {"host": host.strip("[]"), "port": int(port)}
    if args.ca or args.cert or args.key:
        found["tls"] = {"ca_file": args.ca, "cert_file": args.cert, "key_file": args.key}
    return found


def _spelt(member: dict[str, Any]) -> str:
    odd = [key.replace("_", " ") for key in ("churns", "has_wrong_clock", "duplicates", "is_foreign") if member[key]]
    slow = [f"slow ({member['pause_s']:g} s)"] if member["pause_s"] else []
    return f"{member['name']}  site {member['site']}  {', '.join([*odd, *slow])}".rstrip()


def _print(args: argparse.Namespace, document: dict[str, Any], lines: list[str]) -> None:
    text = json.dumps(document, indent=2) if args.json else "\n".join(lines)
    sys.stdout.write(f"{text}\n")
