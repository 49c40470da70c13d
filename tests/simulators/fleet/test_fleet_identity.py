"""Simulated nodes at the broker of a real fleet: by certificates of their own, and only as themselves."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import Tls
from fleet.broker import is_let_in
from fleet.errors import FleetError
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.authority import Identity
    from fleet.home import Home
    from tests.simulators.fleet.conftest import Host, Run

NODES = ("sim-0000", "sim-0001", "sim-0002")


@pytest.fixture
def home(fleet: Any, tmp_path: Path) -> Home:
    """A fleet with three nodes, whose certificates are baked, and a host."""
    home: Home = fleet.home
    home.add_host("host")
    own = home.issue("host")
    write(tmp_path / "host", own.key_pem, own.chain_pem)
    for node in NODES:
        home.add_node(node, "plant")
        card = home.enrolment_for(node, baked=True)
        write(tmp_path / node, card.key_pem or b"", card.cert_pem or b"")
    (tmp_path / "ca.pem").write_bytes(home.root_pem)
    # Told several times at once to read its files, it reads them once, maybe too early.
    fleet.broker.stop()
    fleet.broker.start()
    assert wait_until(partial(is_there, home, own), timeout_s=10)
    return home


def is_there(home: Home, own: Identity) -> bool:
    with suppress(FleetError):
        return is_let_in(home, own)
    return False


def write(folder: Path, key_pem: bytes, cert_pem: bytes) -> None:
    folder.mkdir()
    (folder / "key.pem").write_bytes(key_pem)
    (folder / "cert.pem").write_bytes(cert_pem)


def run_in(group: str, home: Home, folder: Path, new_host: Callable[..., Host], new_run: Callable[..., Run]) -> Run:
    files = {"ca_file": folder / "ca.pem", "cert_file": folder / "host/cert.pem", "key_file": folder / "host/key.pem"}
    host = new_host(home.settings.broker.port, group, tls=Tls(**files).context())
    tls = {"cert_file": str(folder / "{node}/cert.pem"), "key_file": str(folder / "{node}/key.pem")}
    broker = {"host": "localhost", "client_id": "{node}", "tls": {"ca_file": str(folder / "ca.pem"), **tls}}
    return new_run(host, nodes=len(NODES), drain_s=3, broker=broker)


def test_each_node_comes_with_its_own_certificate(
    home: Home, tmp_path: Path, new_host: Callable[..., Host], new_run: Callable[..., Run]
) -> None:
    run = run_in("plant", home, tmp_path, new_host, new_run)
    outcome = run.go(1.0)
    assert (outcome.kept, outcome.counts.refused, outcome.counts.failed_connections) == (0, 0, 0)
    for node in NODES:
        assert run.host.numbers(node) == list(range(1, len(run.samples(node)) + 1))


def test_another_group_is_not_theirs(
    home: Home, tmp_path: Path, new_host: Callable[..., Host], new_run: Callable[..., Run]
) -> None:
    run = run_in("annex", home, tmp_path, new_host, new_run)
    outcome = run.go(0.5)
    assert outcome.unfinished == NODES
    assert outcome.counts.refused > 0
    assert not run.host.heard
