"""`python -m edge probe HOST:PORT`: what is behind a Modbus line, as a configuration to paste."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from contract.config import ConfigError, parse_config
from edge.cli.command import FAILURE, OK, Command
from edge.errors import EdgeError
from edge.sources.modbus.config import LineConfig
from edge.sources.modbus.line import ModbusLine
from edge.sources.modbus.probe import TABLES, Probe, ProbeOptions
from edge.sources.modbus.probe_report import to_yaml

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

INTERRUPTED: Final = 130
_UNIT_IDS: Final = 256
_ADDRESSES: Final = 65_536
_DESCRIPTION: Final = """\
Finds the unit ids on a Modbus line, what can be read from each, the largest block and the pause that they need,
and with --value where a number that you see on the device's display may stand. Prints a configuration to paste.
It only reads: nothing is ever written. Ctrl-C prints what was found so far."""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.epilog = "Exit code: 0 units were found, 1 none or no connection, 2 wrong usage, 130 stopped by Ctrl-C."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("target", nargs="?", metavar="HOST[:PORT]", help="Modbus TCP; the port is 502 unless given")
    add("--rtu", action="store_true", help="RTU frames through that TCP port, as of a serial device server")
    add("--serial", metavar="DEVICE", help="a serial port in place of HOST, such as /dev/ttyUSB0")
    add("--baud", type=int, default=9600, metavar="N", help="of the serial port, bits per second (%(default)s)")
    add("--parity", choices=["none", "even", "odd"], default="none", help="of the serial port (%(default)s)")
    add("--stopbits", type=int, choices=[1, 2], default=1, help="of the serial port (%(default)s)")
    add(
        "--units",
        type=_unit_ids,
        default="1-247",
        metavar="IDS",
        help="ids that are tried, such as 1-10,17 (%(default)s)",
    )
    add("--stop-after", type=int, metavar="N", help="look no further once so many units were found")
    add("--addresses", type=_addresses, default="0-127", metavar="SPAN", help="of each table (%(default)s)")
    add("--tables", type=_tables, default=",".join(TABLES), metavar="TABLES", help="that are looked into (%(default)s)")
    add("--value", type=_wanted, metavar="X", help="a number other than 0 that the device shows: find where it stands")
    add("--tolerance", type=_percent, default="1", metavar="PERCENT", help="of the value (%(default)s)")
    add("--timeout", type=_seconds, default="0.5", metavar="S", help="seconds to wait for one answer (%(default)s)")
    add("--pause", type=_seconds, default="0.02", metavar="S", help="seconds between requests, at least (%(default)s)")
    add("--name", default="probed", help="of the source in the printed configuration (%(default)s)")


def _probe(args: Namespace) -> int:
    return asyncio.run(_run(_options(args), args.name))


async def _run(options: ProbeOptions, name: str) -> int:
    line = ModbusLine(options.line)
    probe = Probe(options, line, _tell)
    _tell(f"probing {options.line.line_name}: reads only, nothing is written")
    work = asyncio.create_task(probe.run(), name="probe")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    fault, stopped = None, False
    try:
        await work
    except asyncio.CancelledError:
        stopped = True
        _tell("stopped: this is what was found so far")
    except EdgeError as exc:
        fault = exc
    finally:
        line.close()
    if probe.findings.unit_ids:
        print(to_yaml(probe.findings, options, name), end="")
    if fault is not None:
        raise fault
    if stopped:
        return INTERRUPTED
    return OK if probe.findings.unit_ids else FAILURE


def _options(args: Namespace) -> ProbeOptions:
    """What the arguments say; raises ConfigError."""
    if (args.target is None) == (args.serial is None):
        raise ConfigError("probe: HOST[:PORT] or --serial DEVICE is needed, and not both")
    if args.serial is not None and args.rtu:
        raise ConfigError("probe: --rtu is for HOST[:PORT]: a serial port is RTU anyway")
    line: dict[str, Any] = {"request_timeout_s": args.timeout, "late_answer_s": args.timeout}
    if args.serial is not None:
        line |= {"transport": "serial", "device": args.serial}
        line |= {"baudrate": args.baud, "parity": args.parity, "stopbits": args.stopbits}
    else:
        line |= {"transport": "rtu_over_tcp" if args.rtu else "tcp", **_host_and_port(args.target)}
    return ProbeOptions(
        line=parse_config(line, LineConfig, "probe"),
        unit_ids=args.units,
        enough=args.stop_after,
        addresses=args.addresses,
        tables=args.tables,
        pause_s=args.pause,
        value=args.value,
        tolerance=args.tolerance,
    )


def _host_and_port(target: str) -> dict[str, str]:
    """HOST, HOST:PORT, or [ADDRESS]:PORT for IPv6."""
    host, colon, port = target.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = target, ""
    return {"host": host.strip("[]"), **({"port": port} if port else {})}


# Arguments


def _unit_ids(text: str) -> list[int]:
    spans = [_span(part, _UNIT_IDS) for part in text.split(",")]
    return list(dict.fromkeys(unit_id for span in spans for unit_id in span))


def _addresses(text: str) -> range:
    return _span(text, _ADDRESSES)


def _span(text: str, end: int) -> range:
    low, dash, high = text.strip().partition("-")
    if not low.isdecimal() or not (high.isdecimal() or not dash):
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: a number or a span such as 0-127")
    span = range(int(low), int(high or low) + 1)
    if not span or span.stop > end:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: 0 to {end - 1}, the smaller first")
    return span


def _tables(text: str) -> list[str]:
    tables = [part.strip() for part in text.split(",")]
    for table in tables:
        if table not in TABLES:
            raise argparse.ArgumentTypeError(f"found {table!r}, allowed: {', '.join(TABLES)}")
    return tables


def _wanted(text: str) -> float:
    value = float(text)
    if not abs(value) > 0 or value in {float("inf"), float("-inf")}:
        raise argparse.ArgumentTypeError("a number other than 0 is needed: zeros stand everywhere")
    return value


def _percent(text: str) -> float:
    share = float(text) / 100
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError("allowed: 0 up to 100 percent")
    return share


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 60:  # noqa: PLR2004 - a minute
        raise argparse.ArgumentTypeError("allowed: 0 to 60 seconds")
    return seconds


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


PROBE: Final = Command(
    "probe", "find what is behind a Modbus line, and print a configuration to paste; reads only", _add_arguments, _probe
)
