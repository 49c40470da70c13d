"""`python -m db`: migrate, status, login, maintain."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from contextlib import nullcontext
from typing import Final

import psycopg2

from contract.health import HealthServer
from db import maintain, migrate, roles
from db.errors import DbError, SettingsError

_EPILOG = "The database is named by the environment variable HEADWATER_DSN (a libpq URI or key=value string)."

_OK: Final = 0
_FAILURE: Final = 1
_WRONG_USE: Final = 2
_INTERRUPTED: Final = 130
_LONGEST_S: Final = 86_400.0
_LAST_PORT: Final = 65_535


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m db", description="Headwater's database.", epilog=_EPILOG)
    waiting = argparse.ArgumentParser(add_help=False)
    waiting.add_argument(
        "--wait", type=_wait, default=30.0, metavar="S", help="seconds to wait for the server (default: 30)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    apply = commands.add_parser(
        "migrate", parents=[waiting], epilog=_EPILOG, help="apply what is pending; safe to repeat"
    )
    apply.add_argument("--dry-run", action="store_true", help="only list what would be applied")
    commands.add_parser(
        "status",
        parents=[waiting],
        epilog=_EPILOG,
        help="migrations, roll-ups, sizes and retention; exit status 1 while migrations are pending",
    )
    login = commands.add_parser(
        "login",
        parents=[waiting],
        epilog=_EPILOG,
        help="let a role log in, with the password in HEADWATER_DB_PASSWORD",
    )
    login.add_argument("role", choices=roles.ROLES)
    _add_maintain(
        commands.add_parser(
            "maintain",
            parents=[waiting],
            epilog=_EPILOG + " The role headwater_maintainer is enough.",
            help="bring roll-ups up to date and remove what is kept no longer, again and again until SIGTERM",
        )
    )
    return parser


def _add_maintain(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--every", type=_interval, default=60.0, metavar="S", help="seconds between passes (default: 60)")
    how.add_argument("--once", action="store_true", help="one pass, which prints what it did")
    how.add_argument("--dry-run", action="store_true", help="only print what there is to do")
    parser.add_argument(
        "--health-port",
        type=_port,
        metavar="PORT",
        help="tell how it stands by GET /healthz on loopback; 0: any free one (default: none)",
    )


def _wait(text: str) -> float:
    return _seconds(text, 0)


def _interval(text: str) -> float:
    return _seconds(text, 1)


def _seconds(text: str, least: float) -> float:
    seconds = float(text)
    if not least <= seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text} s: allowed are {least:g} to {_LONGEST_S:g}")
    return seconds


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text}: allowed are 0 to {_LAST_PORT}")
    return port


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", level=logging.INFO)
    # yoyo tells of every statement; what was applied is told once, by us.
    logging.getLogger("yoyo").setLevel(logging.WARNING)
    try:
        return _run(options)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return _WRONG_USE
    except DbError as exc:
        print(exc, file=sys.stderr)
        return _FAILURE
    except psycopg2.Error as exc:
        print(f"the database refused: {str(exc).strip()}", file=sys.stderr)
        return _FAILURE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    dsn = _required("HEADWATER_DSN", "name the database in it, e.g. postgresql://postgres@127.0.0.1:5432/headwater")
    match options.command:
        case "migrate" if options.dry_run:
            pending = migrate.status(dsn, options.wait).pending
            print("\n".join(pending) or "nothing to apply")
        case "migrate":
            applied = migrate.migrate(dsn, options.wait)
            print(f"applied {len(applied)} migration(s)" if applied else "nothing to apply")
        case "status":
            return _show(migrate.status(dsn, options.wait))
        case "login":
            password = _required("HEADWATER_DB_PASSWORD", f"put the password for {options.role} in it")
            roles.allow_login(dsn, options.role, password, options.wait)
            print(f"{options.role} may log in")
        case "maintain" if options.dry_run:
            print("\n".join(maintain.plan(dsn, options.wait)))
        case "maintain" if options.once:
            print("\n".join(maintain.once(dsn, options.wait)))
        case "maintain":
            _maintain(dsn, options.every, options.health_port)
    return _OK


def _maintain(dsn: str, every_s: float, health_port: int | None) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    maintainer = maintain.Maintainer(dsn, every_s)
    try:
        health = nullcontext() if health_port is None else HealthServer(health_port, maintainer.health)
    except OSError as exc:
        raise DbError(f"--health-port {health_port} cannot be had: {exc.strerror}") from exc
    with health:
        maintainer.run(stop)


def _required(variable: str, advice: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise SettingsError(f"the environment variable {variable} is not set: {advice}")
    return value


def _show(found: migrate.Status) -> int:
    edition = f"{found.server.edition} edition" if found.server.edition else "not yet in this database"
    print(f"PostgreSQL {found.server.version}, TimescaleDB {found.server.timescaledb} ({edition})")
    for step in found.steps:
        print(f"  {'applied' if step.applied else 'pending'}  {step.name}")
    print("\n".join(found.report), end="\n" if found.report else "")
    return _FAILURE if found.pending else _OK


if __name__ == "__main__":
    sys.exit(main())
