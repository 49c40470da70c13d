"""`python -m db`: migrate, status, login."""

from __future__ import annotations

import argparse
import logging
import os
import sys

import psycopg2

from db import migrate, roles
from db.errors import DbError, SettingsError

_EPILOG = "The database is named by the environment variable HEADWATER_DSN (a libpq URI or key=value string)."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m db", description="Headwater's database.", epilog=_EPILOG)
    waiting = argparse.ArgumentParser(add_help=False)
    waiting.add_argument(
        "--wait", type=float, default=30, metavar="S", help="seconds to wait for the server (default: 30)"
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
        help="list the migrations; exit status 1 while some are pending",
    )
    login = commands.add_parser(
        "login",
        parents=[waiting],
        epilog=_EPILOG,
        help="let a role log in, with the password in HEADWATER_DB_PASSWORD",
    )
    login.add_argument("role", choices=roles.ROLES)
    return parser


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
        return 2
    except DbError as exc:
        print(exc, file=sys.stderr)
        return 1
    except psycopg2.Error as exc:
        print(f"the database refused: {str(exc).strip()}", file=sys.stderr)
        return 1


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
    return 0


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
    return 1 if found.pending else 0


if __name__ == "__main__":
    sys.exit(main())
