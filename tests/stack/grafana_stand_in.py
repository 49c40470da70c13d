"""Stands in for `grafana`, `grafana-server` and `docker`, by the name it is run as.

It refuses what Grafana would refuse, and what would let others read a secret; what it was given is noted, a line each,
in the file STAND_IN_NOTES. STAND_IN_DOES says how it fails: `die` at once, or `sulk` instead of being healthy.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import stat
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVISIONED = ("datasources/headwater", "dashboards/headwater", "alerting/contact-points", "alerting/policies")
FAILURE = os.environ.get("STAND_IN_DOES")


class Health(BaseHTTPRequestHandler):
    """GET /api/health."""

    def do_GET(self) -> None:
        self.send_response(503 if FAILURE == "sulk" or self.path != "/api/health" else 200)
        self.end_headers()


def tell(**what: object) -> None:
    with Path(os.environ["STAND_IN_NOTES"]).open("a") as notes:
        notes.write(json.dumps(what) + "\n")


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """As Grafana does it to its settings and to what it provisions; a name that is not set is an error here."""
    text = re.sub(r"\$(?:__env)?\{(\w+)\}", lambda found: environment[found[1]], text)
    return re.sub(r"\$__file\{(.*?)\}", lambda found: secret(Path(found[1])), text)


def secret(path: Path) -> str:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "others can read it"
    return path.read_text().strip()


def serve(config_path: Path, environment: Mapping[str, str], files: tuple[str, str]) -> NoReturn:
    """Reads what it is to provision and serves; `files` is a folder's path as Grafana sees it, and as it is here."""

    def path_of(setting: str) -> Path:
        return Path(expanded(setting, environment).replace(*files))

    if FAILURE == "die":
        sys.exit("the database is locked")
    config = configparser.RawConfigParser()
    config.read(config_path)
    assert path_of(config["dashboards"]["default_home_dashboard_path"]).is_file()
    provisioning = path_of(config["paths"]["provisioning"])
    assert path_of(environment["GF_PATHS_PROVISIONING"]) == provisioning
    read = {name: expanded((provisioning / f"{name}.yaml").read_text(), environment) for name in PROVISIONED}
    assert config["security"]["disable_initial_admin_creation"] == "true"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "false"
    password = expanded(environment["GF_SECURITY_ADMIN_PASSWORD"], environment)
    assert len(password) >= 16
    secrets = (password, environment["HEADWATER_DB_PASSWORD"])
    assert not any(each in word for each in secrets for word in sys.argv)
    tell(password=password, environment=dict(environment), datasource=read["datasources/headwater"])
    signal.signal(signal.SIGTERM, leave)
    address = environment["GF_SERVER_HTTP_ADDR"], int(environment["GF_SERVER_HTTP_PORT"])
    HTTPServer(address, Health).serve_forever()
    raise AssertionError


def leave(*_: object) -> NoReturn:
    tell(left=True)
    os._exit(0)


def grafana(words: list[str]) -> NoReturn:
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert (Path(options["--homepath"]) / "conf/defaults.ini").is_file(), "could not find config defaults"
    assert Path(os.environ["GF_PATHS_DATA"]).is_dir()
    serve(Path(options["--config"]), os.environ, ("", ""))


def docker_run(words: list[str]) -> NoReturn:
    passed = [words[at + 1] for at, word in enumerate(words) if word == "--env"]
    environment = {name: os.environ[name] for name in passed}
    mount = dict(part.partition("=")[::2] for part in words[words.index("--mount") + 1].split(","))
    files = mount["target"], mount["source"]
    serve(Path(environment["GF_PATHS_CONFIG"].replace(*files)), environment, files)


def main(program: str, words: list[str]) -> None:
    if (program, words[0]) == ("docker", "info"):
        sys.stdout.write(os.environ.get("STAND_IN_ENGINE", "") + "\n")
        return
    tell(program=program, words=words)
    if (program, words[0]) == ("docker", "run"):
        docker_run(words)
    if program == "grafana-server":
        grafana(words)
    if (program, words[0]) == ("grafana", "server"):
        grafana(words[1:])


main(Path(sys.argv[0]).name, sys.argv[1:])
