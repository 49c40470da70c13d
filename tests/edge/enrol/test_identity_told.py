"""What a technician reads of a node's identity: in `check`, `status`, on the health page and in /metrics."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from edge.__main__ import main
from edge.enrol.certificate import check_identity, read_certificate
from edge.errors import IdentityError

if TYPE_CHECKING:
    from pathlib import Path

    from edge.enrol.directory import IdentityDirectory

OVERDUE = dt.timedelta(seconds=100)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def look(node: Any, health_port: int, until: str) -> tuple[int, str]:
    """What `status` exits with, and /metrics, of an agent without a broker, once its report has `until`."""
    page = f"http://127.0.0.1:{health_port}"

    def fetch() -> tuple[int, str]:
        code = main(["status", "--url", page])
        with urllib.request.urlopen(f"{page}/metrics", timeout=5) as answer:
            return code, answer.read().decode()

    async def scenario() -> tuple[int, str]:
        async with node.running("127.0.0.1", 1, health={"port": health_port}, drain_timeout_s=0) as agent:
            await node.eventually(node.served, "it polls")
            told: Any = await agent.report()
            async with asyncio.timeout(10):
                while not told["identity"][until]:
                    await asyncio.sleep(0.02)
                    told = await agent.report()
            return await asyncio.to_thread(fetch)

    return asyncio.run(scenario())


def test_status_says_how_long_the_certificate_is_good(
    scripted_fleet: Any,
    identity_directory: IdentityDirectory,
    node: Any,
    free_port: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    certificate = identity_directory.put(scripted_fleet.identity(dt.timedelta(days=30)))
    _, metrics = look(node, free_port, "renewed_from")
    told = capsys.readouterr().out
    until = f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
    assert f"\nidentity pi-007 until {until}, 30 d more, renewed in 20 d\n" in told
    assert f"headwater_edge_certificate_end_timestamp_seconds {int(certificate.not_after.timestamp())}\n" in metrics
    assert "headwater_edge_certificate_renewal_failures 0\n" in metrics


def test_status_says_why_it_is_not_renewed(
    scripted_fleet: Any,
    identity_directory: IdentityDirectory,
    node: Any,
    free_port: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    identity_directory.put(scripted_fleet.identity(OVERDUE))
    scripted_fleet.stop()
    code, metrics = look(node, free_port, "failures")
    told = capsys.readouterr().out
    assert code == 1
    assert ", to be renewed now\n" in told
    assert "\n! the certificate ends on 20" in told
    assert "and is not renewed: https://127.0.0.1:" in told
    assert "headwater_edge_certificate_renewal_failures" in metrics


def test_check_says_what_an_identity_lacks(
    scripted_fleet: Any,
    identity_directory: IdentityDirectory,
    node: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(yaml.safe_dump(node.document("broker.example.com", 8883)))
    identity_directory.path.mkdir(parents=True)
    assert main(["check", str(config)]) == 2
    assert "identity: there is no identity in" in capsys.readouterr().err
    assert main(["check", "--elsewhere", str(config)]) == 0
    assert "broker broker.example.com:8883 (TLS, profile durable)" in capsys.readouterr().out

    identity_directory.put(scripted_fleet.identity())
    assert main(["check", str(config)]) == 0
    (identity_directory.path / "key.pem").write_text(scripted_fleet.identity().key_pem)
    assert main(["check", str(config)]) == 2
    assert "identity: the certificate is for another key" in capsys.readouterr().err


def test_an_identity_and_tls_by_hand_exclude_each_other(
    node: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = node.document("broker.example.com", 8883)
    document["mqtt"]["tls"] = {"ca_file": str(tmp_path / "ca.pem")}
    config = tmp_path / "edge.yaml"
    config.write_text(yaml.safe_dump(document))
    assert main(["check", "--elsewhere", str(config)]) == 2
    assert "identity and mqtt.tls exclude each other" in capsys.readouterr().err


# Names that are odd, and no error, are warned of by cryptography.
@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
def test_no_certificate_however_garbled_is_more_than_an_error(scripted_fleet: Any) -> None:
    identity, dice = scripted_fleet.identity(), random.Random(7)
    lines = identity.chain_pem.splitlines()
    for _ in range(300):
        garbled = list(lines)
        at = dice.randrange(1, len(lines) // 2)
        line = list(garbled[at])
        line[dice.randrange(len(line))] = dice.choice("ABCXYZ0189+/=-")
        garbled[at] = "".join(line)
        chain_pem = "\n".join(garbled)
        try:
            read_certificate(chain_pem)
            found = check_identity("pi-007", identity.key_pem, chain_pem, identity.enrolment.ca_pem)
        except IdentityError:
            continue
        assert found == identity.check(), "only what changed nothing passes"
