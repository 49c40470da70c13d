"""Grafana with the dashboards of this checkout: one that is installed here, or its image on a Docker engine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from psycopg2.extensions import parse_dsn

from stack.docker.engine import Docker
from stack.errors import ServerError, StackError
from stack.install import CHECKOUT
from stack.process import Command
from stack.server import LOOPBACK, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.install import Part

# The one that docker-compose.yml pins, too.
IMAGE: Final = "grafana/grafana:12.3.1"
HOW_TO_GET: Final = (
    "unpack Grafana 12 (https://grafana.com/grafana/download) and set GRAFANA_HOME to its folder, or start Docker"
)
_FILES: Final = CHECKOUT / "grafana"
_FILES_IN_IMAGE: Final = Path("/etc/headwater/grafana")
# Since Grafana 9 a server is a command of `grafana`; before, and in some packages still, a program of its own.
_PROGRAMS: Final = (("grafana", ("server",)), ("grafana-server", ()))
_INFO_TIMEOUT_S: Final = 5.0
_REMOVE_TIMEOUT_S: Final = 20.0
_PROBE_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Installed:
    """A Grafana of this machine: the words that run its server, and the folder with its `conf` and `public`."""

    program: tuple[str, ...]
    home: Path
    # The first start makes the tables of its own database.
    start_timeout_s: float = 120.0

    def command(self, grafana: Grafana) -> Command:
        """How to run it over the files of the checkout; data and plug-ins are in the server's directory."""
        argv = [*self.program, "--homepath", str(self.home), "--config", str(_FILES / "grafana.ini")]
        env = {
            **grafana.settings(_FILES),
            "GF_PATHS_DATA": str(grafana.data_dir),
            "GF_PATHS_LOGS": str(grafana.data_dir / "log"),
            "GF_PATHS_PLUGINS": str(grafana.data_dir / "plugins"),
            # NAME__FILE, which says the same, is known to the start script of Grafana's image alone.
            "GF_SECURITY_ADMIN_PASSWORD": f"$__file{{{grafana.password_path}}}",
        }
        # The directory's name among the words tells a demo which processes are left of a killed one.
        return Command([*argv, "--pidfile", str(grafana.directory / "grafana.pid")], env=env, cwd=self.home)

    def remove(self, _grafana: Grafana) -> None:
        """A process that has ended leaves nothing."""


@dataclass(frozen=True, slots=True)
class InDocker:
    """Grafana's image, on this machine's network: the database listens on loopback alone."""

    docker: Docker
    # The first start pulls the image.
    start_timeout_s: float = 600.0

    def command(self, grafana: Grafana) -> Command:
        """How to run it; what it stores goes with the container."""
        env = {
            **grafana.settings(_FILES_IN_IMAGE),
            "GF_PATHS_CONFIG": str(_FILES_IN_IMAGE / "grafana.ini"),
            "GF_SECURITY_ADMIN_PASSWORD": grafana.password_path.read_text().strip(),
        }
        argv = ["docker", "run", "--rm", "--name", _container(grafana), "--network", "host", "--memory", "512m"]
        argv += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        argv += ["--mount", f"type=bind,source={_FILES},target={_FILES_IN_IMAGE},readonly"]
        # Names alone: docker takes the values from its own environment, and everybody can read its command line.
        argv += [word for name in env for word in ("--env", name)]
        return Command([*argv, IMAGE], env={**self.docker.env, **env})

    def remove(self, grafana: Grafana) -> None:
        """Removes the container, which survives a `docker run` that was killed."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.docker.run("rm", "--force", "--volumes", _container(grafana), timeout_s=_REMOVE_TIMEOUT_S)


class Grafana(Server):
    """A Grafana on loopback with the provisioning of this checkout, over the database of a reader's connection string.

    Whoever can reach the port may look without a login, as a Viewer; to change something there is the account `admin`.
    Alerts are seen in it and told to nobody. Without `found` it is looked for, as `find_grafana` does.
    """

    name: ClassVar[str] = "Grafana"

    def __init__(
        self,
        reader_dsn: str,
        *,
        port: int | None = None,
        directory: Path | None = None,
        found: Installed | InDocker | None = None,
    ) -> None:
        self._found = find_grafana() if found is None else found
        super().__init__(port=port, directory=directory)
        self._database = parse_dsn(reader_dsn)

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://{self.address}"

    @property
    def password_path(self) -> Path:
        """The random password of `admin`, made at the first start, readable by its owner alone."""
        return self.directory / "admin.password"

    @property
    def start_timeout_s(self) -> float:
        """How long it may take until it serves."""
        return self._found.start_timeout_s

    def settings(self, files: Path) -> dict[str, str]:
        """Its environment, where the checkout's folder `grafana` is seen as `files`."""
        return {
            "GF_SERVER_HTTP_ADDR": LOOPBACK,
            "GF_SERVER_HTTP_PORT": str(self.port),
            "GF_SERVER_DOMAIN": LOOPBACK,
            "GF_LOG_MODE": "console",
            "GF_PATHS_PROVISIONING": str(files / "provisioning"),
            # Grafana 12 fetches plug-ins that nothing here needs.
            "GF_PLUGINS_PREINSTALL_DISABLED": "true",
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            # The account `admin`, whose password each way to run it tells.
            "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "false",
            "HEADWATER_GRAFANA": str(files),
            **_database_settings(self._database),
            # Whoever has these set for a Grafana that counts is not to be called by this one.
            "HEADWATER_ALERT_TO": "",
            "HEADWATER_ALERT_WEBHOOK": "",
            "HEADWATER_ALERT_EMAIL": "",
        }

    def serves(self) -> bool:
        """Whether it answers and has its own database; takes a second at most."""
        # Not urllib, which would ask a proxy of the environment for it.
        connection = HTTPConnection(LOOPBACK, self.port, timeout=_PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/api/health")
            response = connection.getresponse()
            response.read()
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
        return response.status == HTTPStatus.OK

    def launch(self) -> None:
        """As any server's; what a run before has left in Docker goes first."""
        if not self.running:
            self._found.remove(self)
        super().launch()

    def wait_ready(self) -> None:
        """As any server's."""
        try:
            self._process.wait_ready(self._probe, timeout_s=self.start_timeout_s)
        except ServerError:
            self.kill()
            raise

    def stop(self) -> None:
        """As any server's."""
        try:
            super().stop()
        finally:
            self._found.remove(self)

    def kill(self) -> None:
        """As any server's."""
        super().kill()
        self._found.remove(self)

    def _parts(self) -> list[Part]:
        return []  # found already

    def _prepare(self) -> None:
        # Its database has the reader's password, under a key that is the same in every Grafana.
        self.directory.chmod(0o700)
        self.data_dir.mkdir(exist_ok=True)
        if not self.password_path.exists():
            self.password_path.touch(mode=0o600)
            self.password_path.write_text(secrets.token_urlsafe(24) + "\n")

    def _command(self) -> Command:
        return self._found.command(self)

    def _probe(self) -> bool:
        return self.serves()


def find_grafana() -> Installed | InDocker:
    """The Grafana in GRAFANA_HOME, else that on the PATH, else Docker; raises StackError, which says how to get one.

    A GRAFANA_HOME that is set and empty says that none is wanted.
    """
    home = os.environ.get("GRAFANA_HOME")
    if home == "":
        raise StackError("GRAFANA_HOME is set to nothing, so none is started")
    if home is not None:
        return _in_home(Path(home).absolute())
    found = _on_path()
    if found is not None:
        return found
    docker = Docker()
    if _answers(docker):
        return InDocker(docker)
    raise StackError(f"there is no Grafana here: {HOW_TO_GET}")


def _in_home(home: Path) -> Installed:
    program = _program(str(home / "bin"))
    if program is None:
        raise StackError(f"GRAFANA_HOME is {home}, where there is no bin/grafana: {HOW_TO_GET}")
    return Installed(program, home)


def _on_path() -> Installed | None:
    program = _program(os.environ.get("PATH", ""))
    if program is None:
        return None
    # As it is unpacked, and as packages lay it out.
    prefix = Path(program[0]).resolve().parent.parent
    home = next((home for home in (prefix, prefix / "share/grafana") if (home / "conf/defaults.ini").is_file()), None)
    if home is None:
        return None  # another program of that name
    # What packages have on the PATH are scripts that add settings of their own.
    return Installed(_program(str(home / "bin")) or program, home)


def _program(path: str) -> tuple[str, ...] | None:
    """The words that run a server, of what is in some folders."""
    for name, words in _PROGRAMS:
        if found := shutil.which(name, path=path):
            return found, *words
    return None


def _answers(docker: Docker) -> bool:
    """Whether there is a Docker with an engine that answers soon."""
    try:
        told = docker.run("info", "--format", "{{.ServerVersion}}", timeout_s=_INFO_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    # Older ones end with 0 where they have no engine.
    return told.returncode == 0 and bool(told.stdout.strip())


def _container(grafana: Grafana) -> str:
    return f"headwater-grafana-{hashlib.sha256(str(grafana.directory).encode()).hexdigest()[:12]}"


def _database_settings(database: Mapping[str, str]) -> dict[str, str]:
    """What the provisioned data source asks the environment for."""
    return {
        "HEADWATER_DB_HOST": f"{database['host']}:{database['port']}",
        "HEADWATER_DB_NAME": database["dbname"],
        "HEADWATER_DB_USER": database["user"],
        "HEADWATER_DB_PASSWORD": database["password"],
        "HEADWATER_DB_SSLMODE": database.get("sslmode", "disable"),
        "HEADWATER_DB_SSL_CA": database.get("sslrootcert", ""),
    }
