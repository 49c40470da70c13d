"""`python -m stream`: run the job, or check its configuration."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from contract.config import ConfigError, read_config
from stream import deadletters, replay
from stream.config import StreamConfig
from stream.errors import DatabaseAway, FatalError

if TYPE_CHECKING:
    from stream.run import Part

_EPILOG = "The database is named by the environment variable HEADWATER_DSN, or by database.dsn_file."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stream", description="Kafka to TimescaleDB, exactly once.", epilog=_EPILOG
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run until SIGTERM or SIGINT", epilog=_EPILOG)
    run.add_argument("config", type=Path, help="a YAML file; stream/examples/stream.yaml is a sample")
    run.add_argument("--master", metavar="URL", help="where Spark runs, instead of spark.master: local[2], spark://...")
    run.add_argument("--only", choices=("ingest", "analysis", "forecasting"), help="one part of the job alone")
    run.add_argument("--once", action="store_true", help="store what Kafka holds now, and stop; without forecasting")
    check = commands.add_parser("check", help="only say whether a configuration is right")
    check.add_argument("config", type=Path)
    deadletters.add_parser(commands, _EPILOG)
    replay.add_parser(commands, _EPILOG)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", level=logging.INFO)
    # It prints the trace of every exception that crosses it; what an operator should know, we say.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        config = read_config(options.config, StreamConfig)
        if options.command == "check":
            print(f"{options.config} is right")
            return 0
        if options.command == "deadletter":
            return deadletters.run(options, config, print)
        if options.command == "replay":
            return replay.run(options, config, print)
        return _run(config, options.master, once=options.once, only=options.only)
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return 2
    except (FatalError, DatabaseAway) as exc:
        logging.getLogger("stream").critical("%s", exc)
        return 1


def _run(config: StreamConfig, master: str | None, *, once: bool, only: Part | None) -> int:
    # Spark takes a second to import: not for --help or a wrong configuration.
    from stream.run import run  # noqa: PLC0415  # heavy: loaded where it is used

    if master:
        config = config.model_copy(update={"spark": config.spark.model_copy(update={"master": master})})
    run(config, once=once, only=only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
