"""PostgreSQL with TimescaleDB."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, ClassVar, Final

import psutil
import psycopg2
from psycopg2 import sql

from stack.errors import ServerError
from stack.install import CHECKOUT, Part, postgres_bin, timescaledb_control
from stack.process import Command, kill_all, run_to_end
from stack.server import LOOPBACK, Server, prune

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg2.extensions import connection

DATABASE: Final = "headwater"
SUPERUSER: Final = "postgres"
_INITDB_TIMEOUT_S = 120.0
_SERVICE_ACCOUNT = "postgres"


class Timescale(Server):
    """A PostgreSQL with the extension timescaledb in a database `headwater`; loopback only, passwords required.

    PostgreSQL refuses to run as root: started by root it runs as the account `postgres`, and where that cannot reach
    the directory (a checkout below /root), its files go to a directory of the same name below /var/tmp/headwater-*,
    which `make clean` removes. Commits are durable: `synchronous_commit` stays on. `settings` overrule ours.
    """

    name: ClassVar[str] = "TimescaleDB"

    def __init__(
        self,
        *,
        port: int | None = None,
        directory: Path | None = None,
        shared_buffers: str = "512MB",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(port=port, directory=directory)
        self._account = _SERVICE_ACCOUNT if os.geteuid() == 0 else None
        if self._account is not None and not _reachable(self.directory, self._account):
            prune(outside_dir())
            self.directory = outside_dir() / self._outside_name()
            self._process.log_path = self.log_path
        self._shared_buffers = shared_buffers
        self._settings = dict(settings or {})

    @property
    def password_path(self) -> Path:
        """The superuser's random password, made at the first start, readable by the server's account only."""
        return self.directory / "superuser.password"

    @property
    def superuser_dsn(self) -> str:
        """The superuser's connection to the database `headwater`."""
        return self.dsn(user=SUPERUSER, password=self._superuser_password())

    def dsn(self, *, user: str, password: str, dbname: str = DATABASE) -> str:
        """A connection string for libpq (psycopg2, psql)."""
        return psycopg2.extensions.make_dsn(
            host=LOOPBACK, port=self.port, user=user, password=password, dbname=dbname, connect_timeout=5
        )

    @contextlib.contextmanager
    def connect(self, dbname: str = DATABASE) -> Iterator[connection]:
        """The superuser's connection in autocommit, which CREATE DATABASE needs; closed in the end."""
        dsn = self.dsn(user=SUPERUSER, password=self._superuser_password(), dbname=dbname)
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    def create_database(self, dbname: str) -> str:
        """Makes an empty database with the extension in it; returns the superuser's connection string for it."""
        with self.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(dbname)))
        with self.connect(dbname) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        return self.dsn(user=SUPERUSER, password=self._superuser_password(), dbname=dbname)

    def drop_database(self, dbname: str) -> None:
        """Drops a database, whoever is connected to it."""
        with self.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(dbname)))

    def wipe(self) -> None:
        """Deletes the cluster and the superuser's password with it; the server must not run."""
        super().wipe()
        self.password_path.unlink(missing_ok=True)

    def _outside_name(self) -> str:
        """A temporary directory keeps its name, by which it is pruned; others of one name may be many."""
        return self.directory.name if self._temporary else _digest(self.directory)

    def _superuser_password(self) -> str:
        return self.password_path.read_text().strip()

    def _parts(self) -> list[Part]:
        return [Part("PostgreSQL", postgres_bin() / "postgres"), Part(self.name, timescaledb_control())]

    def _prepare(self) -> None:
        if (self.data_dir / "PG_VERSION").exists() and self.password_path.exists():
            self._end_orphans()
            return
        # Left by an initdb that was interrupted.
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.directory.chmod(0o700)
        self.password_path.touch(mode=0o600)
        self.password_path.write_text(secrets.token_urlsafe(24) + "\n")
        if self._account is not None:
            shutil.chown(self.directory, self._account)
            shutil.chown(self.password_path, self._account)
        self._initdb()

    def _end_orphans(self) -> None:
        """Ends the backends of a postmaster that was killed alone: a new one refuses to start beside them.

        Idle ones notice by themselves, one at work only when its statement is done.
        """
        try:
            postmaster = int((self.data_dir / "postmaster.pid").read_text().split(maxsplit=1)[0])
        except (OSError, ValueError, IndexError):
            return
        # All of them work in the data directory, which tells them from whoever has their process ids by now.
        family = [process for process in psutil.process_iter() if _works_in(process, self.data_dir)]
        if postmaster in {process.pid for process in family}:
            return  # somebody else's server, and alive: the new one will say so
        kill_all(family)
        psutil.wait_procs(family, timeout=10.0)

    def _initdb(self) -> None:
        argv = [
            str(postgres_bin() / "initdb"),
            f"--pgdata={self.data_dir}",
            f"--username={SUPERUSER}",
            f"--pwfile={self.password_path}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            # The first checkpoint writes it all the same; a machine that fails before that starts anew.
            "--no-sync",
        ]
        try:
            run_to_end(
                self.name,
                Command(argv, user=self._account, cwd=Path("/")),
                timeout_s=_INITDB_TIMEOUT_S,
                failed="could not make its cluster",
                log_path=self.log_path,
            )
        except ServerError:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self.password_path.unlink()
            raise

    def _server_settings(self) -> dict[str, str]:
        return {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            # TCP only: a socket's path has a limit of 107 bytes, which a deep checkout exceeds.
            "unix_socket_directories": "",
            "shared_preload_libraries": "timescaledb",
            "timescaledb.telemetry_level": "off",
            "shared_buffers": self._shared_buffers,
            "max_wal_size": "2GB",
            "wal_compression": "on",
            # The ledger says that what was committed is there after a crash.
            "synchronous_commit": "on",
            "max_connections": "60",
            # One scheduler for each database with the extension: tests have many.
            "max_worker_processes": "40",
            "timescaledb.max_background_workers": "24",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_timezone": "UTC",
            "timezone": "UTC",
            **self._settings,
        }

    def _command(self) -> Command:
        argv = [str(postgres_bin() / "postgres"), "-D", str(self.data_dir)]
        for key, value in self._server_settings().items():
            argv += ["-c", f"{key}={value}"]
        # SIGINT is the fast shutdown; SIGTERM would wait for clients to leave.
        return Command(argv, user=self._account, stop_signal=SIGINT, cwd=Path("/"))

    def _probe(self) -> bool:
        try:
            with self.connect("postgres") as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return True
        except psycopg2.OperationalError:
            return False

    def _after_start(self) -> None:
        with self.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            exists = cursor.fetchone() is not None
        if not exists:
            self.create_database(DATABASE)


def outside_dir() -> Path:
    """Where this checkout's clusters go when the server's account cannot reach the checkout."""
    # S108: the folders in it belong to us or to postgres.
    return Path("/var/tmp") / f"headwater-{_digest(CHECKOUT)}"  # noqa: S108  # see above


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return bool(process.cwd() == str(directory))
    except psutil.Error:
        return False


def _reachable(directory: Path, account: str) -> bool:
    """Whether an account can go through all the existing parents of a directory."""
    try:
        uid = pwd.getpwnam(account).pw_uid
    except KeyError:
        return True  # PostgreSQL is not installed, which `start` will say
    return all(_may_enter(parent, uid) for parent in directory.parents if parent.exists())


def _may_enter(directory: Path, uid: int) -> bool:
    status = directory.stat()
    return bool(status.st_mode & 0o001) or (status.st_uid == uid and bool(status.st_mode & 0o100))
