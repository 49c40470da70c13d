"""`python -m fleet bundle`: what it makes of a node, what it refuses, and what it leaves alone when it fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.enrolment import Enrolment, read_message
from fleet.__main__ import main
from fleet.bundle import BundleKind, NodeFiles, make_bundle, read_about
from fleet.cards import token_digest
from fleet.home import Home
from stack import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fleet.bundle.conftest import Workshop

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    words = ["--name", "Test", "--group", "plant", "--group", "annex", "--broker", "localhost"]
    assert main(["init", "--home", str(tmp_path / "home"), *words]) == 0
    made = Home.open(tmp_path / "home")
    made.add_node("pi-1", "plant")
    return made


@pytest.mark.parametrize("baked", [False, True])
def test_a_nodes_bundle_has_its_enrolment(baked: bool, home: Home, workshop: Workshop) -> None:  # noqa: FBT001 - parametrized
    files = NodeFiles({}).with_card(home.enrolment_for("pi-1", baked=baked))
    made = workshop.make(BundleKind.TAR, f"node-{baked}.tar.gz", files)
    with tarfile.open(made.path) as tar:
        told = {Path(name).name: tar.extractfile(name).read() for name in tar.getnames() if name.startswith("node/")}  # type: ignore[union-attr] # files alone
    enrolment = read_message(told["enrol.json"], Enrolment, "enrol.json")
    assert (enrolment.node, enrolment.token is None) == ("pi-1", baked)
    assert told.keys() == {"enrol.json", *(("cert.pem", "key.pem") if baked else ())}


@pytest.fixture
def _index(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pip's index has the workshop's wheels."""
    shutil.copytree(workshop.wheels, tmp_path / "simple/greeting")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("_index")
def test_the_command_makes_its_node_known_and_says_what_takes_its_time(
    home: Home, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fleet.cli.bundle.make_bundle", partial(make_bundle, checkout=workshop.checkout))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    of_home = ["--home", str(home.path), "--json"]
    target = ["--arch", workshop.target.arch, "--python", workshop.target.python]
    capsys.readouterr()
    assert main(["bundle", "pi-9", "--group", "annex", "--tar", *target, *of_home]) == 0
    out, err = capsys.readouterr()
    assert read_about(Path(json.loads(out)["path"])).node == "pi-9"
    assert home.registry.node("pi-9").group == "annex"
    assert re.search(r"^fetching 1 library for (?s:.*)^  greeting 1\.0, [0-9]+ bytes\npacking ", err, re.MULTILINE)
    assert main(["bundle", "pi-9", "--group", "plant", "--tar", *target, *of_home]) == 1
    assert "pi-9 is a node of group annex" in capsys.readouterr().err


def test_a_dry_run_makes_no_token(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bundle", "--home", str(home.path), "pi-1", "--tar", "--arch", "arm64", "--python", "3.11", "--dry-run"]
    before = (home.path / "registry.sqlite").read_bytes()
    assert main(words) == 0
    assert "tflite-runtime" in capsys.readouterr().out
    assert (home.path / "registry.sqlite").read_bytes() == before
    assert not (home.path / "bundles").exists()


def test_the_command_says_what_it_would_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    home = ("--home", str(tmp_path / "none"))
    assert main(["bundle", *home, "--tar", "--arch", "armhf", "--python", "3.13", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["made"] is False
    assert "ai-edge-litert" in told["lacking"]
    assert "python3-numpy" in told["from_debian"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--tar", "--config", "edge.yaml"], "--config: is a node's"),
        (["pi-1", "--update"], "--update: is the same for all nodes"),
        (["--deb", "--whole"], "--whole: other bundles"),
        (["pi-1", "--tar"], "is no fleet's directory"),
        (["--tar", "--wheels", "nowhere"], "--wheels: found 'nowhere', allowed: a directory with wheels"),
        (["--tar", "--out", "/nowhere/bundle", "--dry-run"], "--out: found '/nowhere/bundle', allowed: a file"),
        (["--tar", "--out", "/"], "--out: found '/', allowed: a file in a directory that is there"),
    ],
)
def test_wrong_use_is_told(
    arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = ["--home", str(tmp_path / "none")]
    assert main(["bundle", *home, *arguments, "--arch", "arm64", "--python", "3.11"]) == 2
    assert fault in capsys.readouterr().err


def test_all_that_is_missing_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle"]) == 2
    assert "bundle: needs --deb, --tar or --update, and --arch, and --python" in capsys.readouterr().err
    assert main(["bundle", "--tar", "--python", "3.11"]) == 2
    assert "bundle: needs --arch;" in capsys.readouterr().err


def test_a_bundle_that_fails_leaves_the_token_of_before(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = home.enrolment_for("pi-1").enrolment.token
    assert token is not None
    (tmp_path / "none").mkdir()
    words = ["--home", str(home.path), "--arch", "amd64", "--python", "3.11", "--wheels", str(tmp_path / "none")]
    assert main(["bundle", "pi-1", "--tar", *words]) == 1
    assert "wheels cannot be had: ERROR: No matching distribution" in capsys.readouterr().err
    assert home.registry.use_token("pi-1", token_digest(token.get_secret_value()), "key")


def test_an_index_that_does_not_answer_is_not_taken_for_one_that_has_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port()}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert main(["bundle", "--tar", "--home", str(home.path), "--arch", "amd64", "--python", "3.11"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "wheels cannot be had: pip's index does not answer" in told
    assert told.endswith("Connection refused')")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that belong to somebody else")
def test_what_root_bundles_is_the_homes_owners(home: Home, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.cli.bundle.make_bundle", partial(make_bundle, checkout=workshop.checkout))
    os.chown(home.path, 12345, 12345)
    words = ["--arch", workshop.target.arch, "--python", workshop.target.python, "--wheels", str(workshop.wheels)]
    assert main(["bundle", "--tar", "--home", str(home.path), *words]) == 0
    bundles = home.path / "bundles"
    assert {path.stat().st_uid for path in (bundles, *bundles.iterdir())} == {12345}


def test_who_is_killed_leaves_nothing_and_nobody_behind(home: Home) -> None:
    """As a terminal that is closed does it; the index says nothing."""
    words = ["--home", str(home.path), "--tar", "--arch", "amd64", "--python", "3.11"]
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.settimeout(PATIENCE_S)
        environment = {**os.environ, "PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/simple"}
        with subprocess.Popen([sys.executable, "-m", "fleet", "bundle", *words], env=environment, cwd=ROOT) as fleet:
            asked, _ = index.accept()
            with asked:
                asked.settimeout(PATIENCE_S)
                assert asked.recv(4) == b"GET "
                fleet.send_signal(signal.SIGTERM)
                assert fleet.wait(PATIENCE_S) == 130
                while asked.recv(4096):
                    pass  # until nobody is there who asked
    assert list((home.path / "bundles").iterdir()) == []
