"""The command line: `python -m stack`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack.demo import run_demo
from stack.demo.layout import Ports
from stack.errors import StackError
from stack.install import RUN_DIR, parts
from stack.kafka import Kafka
from stack.mosquitto import Mosquitto
from stack.process import wait_until
from stack.server import together
from stack.timescale import Timescale

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from stack.server import Server

_LAST_PORT: Final = 65_535


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__.partition(":")[0])
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_run(commands)
    status = commands.add_parser("status", help="say what set-up has installed, and where")
    status.set_defaults(command=_status)
    arguments = parser.parse_args(argv)
    _stop_on_signals()
    try:
        return int(arguments.command(arguments))
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="run the whole of Headwater with simulators, and show it")
    demo.add_argument(
        "--duration",
        type=_seconds,
        metavar="SECONDS",
        help="run so long, drain, print the reconciliation; exit 0 only if nothing was lost (default: until Ctrl-C)",
    )
    demo.add_argument("--seed", type=_seed, default=7, help="the simulators' seed (default: 7)")
    demo.add_argument("--free-ports", action="store_true", help="take free ports instead of the documented ones")
    demo.add_argument(
        "--directory",
        type=Path,
        default=RUN_DIR / "demo",
        help="its data, logs and configurations; emptied at the start (default: .stack/run/demo)",
    )
    demo.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    ports = Ports.free() if arguments.free_ports else Ports()
    return run_demo(arguments.directory, ports, duration_s=arguments.duration, seed=arguments.seed)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="start the three servers, print their addresses, stop on Ctrl-C")
    for option, whose in (("--mqtt-port", "Mosquitto"), ("--kafka-port", "Kafka"), ("--database-port", "PostgreSQL")):
        run.add_argument(option, type=_port, metavar="PORT", help=f"{whose}'s port (default: a free one)")
    run.add_argument(
        "--directory",
        type=Path,
        default=RUN_DIR / "servers",
        help="where their data and logs are kept between runs (default: .stack/run/servers)",
    )
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.directory
    timescale = Timescale(port=arguments.database_port, directory=directory / "timescale")
    servers: list[Server] = [
        Mosquitto(port=arguments.mqtt_port, directory=directory / "mosquitto"),
        Kafka(port=arguments.kafka_port, directory=directory / "kafka"),
        timescale,
    ]
    with together(*servers):
        for server in servers:
            print(f"{server.name:<12} {server.address:<18} log: {server.log_path}")
        print(f"superuser's password: {timescale.password_path}\nrunning; Ctrl-C stops them", flush=True)
        wait_until(lambda: not all(server.running for server in servers), timeout_s=float("inf"), poll_s=0.5)
        ended = next(server for server in servers if not server.running)
        print(f"error: {ended.name} ended with status {ended.poll()}:\n{ended.log_tail()}", file=sys.stderr)
    return 1


def _status(_arguments: argparse.Namespace) -> int:
    found = parts()
    for part in found:
        print(f"{part.name:<24} {'installed' if part.installed else 'MISSING  '}  {part.path}")
    if all(part.installed for part in found):
        return 0
    print("run `make setup` to install what is missing")
    return 1


def _stop_on_signals() -> None:
    """Lets SIGTERM and SIGHUP end a run the way Ctrl-C does; a second signal kills, and a third disturbs no more."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    came = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came > 1:
            for number in numbers:
                signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: allowed are more than 0 seconds")
    return seconds


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text}: allowed are 1 to {_LAST_PORT}")
    return port


def _seed(text: str) -> int:
    seed = int(text)
    if seed < 0:
        raise argparse.ArgumentTypeError(f"{text}: allowed are whole numbers from 0")
    return seed


if __name__ == "__main__":
    sys.exit(main())
