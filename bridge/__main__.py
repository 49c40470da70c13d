"""`python -m bridge run|check CONFIG`."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from bridge.config import BridgeConfig
from bridge.errors import BridgeError
from bridge.flow import Bridge
from contract.config import ConfigError, read_config
from contract.health import HealthServer

logger = logging.getLogger("bridge")

OK, FAILURE, USAGE = 0, 1, 2
_GARBAGE_AFTER = 20_000  # objects that were made and are still there


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the result is the exit status: 0 done, 1 failure, 2 wrong usage or config."""
    options = _parser().parse_args(arguments)
    try:
        config = read_config(options.config, BridgeConfig)
        _require_secrets(config)
        if options.command == "check":
            print(f"{options.config}: fit for use")
            return OK
        return _run(config)
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bridge", description="Carries Sparkplug B messages from MQTT to Kafka, at least once."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "carry messages until SIGTERM or SIGINT, then deliver what is in flight"),
        ("check", "only read the configuration and say what is wrong with it"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("config", type=Path, help="the bridge's YAML file")
    return parser


def _require_secrets(config: BridgeConfig) -> None:
    for server in (config.mqtt, config.kafka):
        server.password()
        if server.tls is not None:
            server.tls.context()


def _run(config: BridgeConfig) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", level=logging.INFO)
    quiet_kafka()
    # What is imported stays, and messages make no cycles: looking through it all for garbage took a tenth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER)
    bridge = Bridge(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    threading.excepthook = lambda args: bridge.fail(_died(args))
    try:
        with ExitStack() as stack:
            if config.health is not None:
                stack.enter_context(_health_server(config.health.port, bridge))
            bridge.run()
    except BridgeError as exc:
        logger.error("%s; ending, nothing unconfirmed was acknowledged", exc)  # noqa: TRY400 - an operator's line, no traceback
        return FAILURE
    return OK


def quiet_kafka() -> None:
    """kafka-python logs every attempt to connect; the bridge says itself when Kafka goes and comes."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    # But a fault in its thread, which goes on, or in what it calls there, would else show as mere silence.
    for name in ("kafka.producer.sender", "kafka.future"):
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).addFilter(_has_traceback)


def _has_traceback(record: logging.LogRecord) -> bool:
    return record.exc_info is not None


def _health_server(port: int, bridge: Bridge) -> HealthServer:
    try:
        return HealthServer(port, bridge.health)
    except OSError as exc:
        raise BridgeError(f"health.port {port} cannot be had: {exc.strerror}") from exc


def _died(args: threading.ExceptHookArgs) -> BridgeError:
    logger.error("a thread died", exc_info=args.exc_value)
    return BridgeError(f"thread {args.thread.name if args.thread else '?'} died: {args.exc_value!r}")


if __name__ == "__main__":
    sys.exit(main())
