"""What a node must not take: each is refused with its reason in the log, and what runs goes on."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contract.update import desired_topic, signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def good(site: Any) -> bytes:
    content: bytes = site.text(sources=site.source(interval_s=0.1))
    return content


def another_key(site: Any) -> Path:
    path: Path = site.directory / "another.pem"
    key = Ed25519PrivateKey.generate().public_key()
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def first(site: Any) -> Any:
    """One that is older than any that was taken."""
    return site.operator.desire(good(site), counter=1)


def of_another_key(site: Any) -> None:
    site.operator.send(first(site), signed(site.operator.desire(good(site)), Ed25519PrivateKey.generate()))


def changed(site: Any) -> None:
    site.operator.send(first(site), site.operator.sign(first(site)).replace(b'"counter":1,', b'"counter":9,'))


def for_another(site: Any) -> None:
    other = site.operator.desire(good(site), node="edge-2")
    site.operator.publish(desired_topic("updates", "edge-1", "config", "config"), site.operator.sign(other))


def expired(site: Any) -> None:
    site.operator.send(site.operator.desire(good(site), expires_at=datetime.now(UTC) - timedelta(seconds=1)))


def replayed(site: Any) -> None:
    site.operator.send(first(site))


def tampered_chunk(site: Any) -> None:
    desired = site.operator.desire(good(site), chunk_bytes=200)
    site.operator.put_chunks(desired, good(site))
    site.operator.publish(desired.chunk_topic(1), b"x" * 200)
    site.operator.send(desired)


def truncated_chunk(site: Any) -> None:
    # Of content of its own: what is staged of the same is not fetched again.
    desired = site.operator.desire(good(site) + b"# more")
    site.operator.publish(desired.chunk_topic(0), good(site)[:100])
    site.operator.send(desired)


def another_whole(site: Any) -> None:
    desired = site.operator.desire(good(site) + b"# ").model_copy(update={"sha256": "0" * 64})
    site.operator.put_chunks(desired, good(site) + b"# ")
    site.operator.send(desired)


CASES: Final[list[tuple[Callable[[Any], object], str]]] = [
    (of_another_key, "is not signed by the fleet's update key"),
    (changed, "is not signed by the fleet's update key"),
    (lambda site: site.operator.send(first(site), b"nonsense"), "its first line is no signature"),
    (for_another, "is for updates/edge-2, and this is updates/edge-1"),
    (expired, "has expired at"),
    (replayed, "its counter 1 is not above"),
    (tampered_chunk, "chunk 1 is not what was signed"),
    (truncated_chunk, "chunk 0 is not what was signed"),
    (another_whole, "the whole is not what was signed"),
    (lambda site: site.operator.roll_out(b"sources: [}"), "is not YAML"),
    (lambda site: site.operator.roll_out(site.text(nodes=1)), "nodes: is not a known key"),
    (lambda site: site.operator.roll_out(site.text(node="edge-2")), "it is that of updates/edge-2"),
    (lambda site: site.operator.roll_out(site.text(update=None)), "it has no `update`"),
    (lambda site: site.operator.roll_out(site.text(state_dir="/elsewhere")), "its state_dir is /elsewhere"),
    (
        lambda site: site.operator.roll_out(site.text(update={"key_files": ["/nowhere/none.pem"]})),
        "this machine lacks what it names",
    ),
    (
        lambda site: site.operator.roll_out(site.text(update={"key_files": [str(another_key(site))]})),
        "with it no update would be taken any more of who has signed it",
    ),
    (
        lambda site: site.operator.roll_out(site.text(update={"key_files": [str(site.path)]})),
        "with it no update would be taken any more: .*is no public key in PEM",
    ),
    (lambda site: site.operator.roll_out(site.text(update={})), "update needs key_files, or an identity"),
    (lambda site: site.operator.roll_out(site.text(jitter_s=1)), "changes jitter_s, which needs a restart, and nobody"),
    (lambda site: site.operator.roll_out(good(site), kind="agent"), "this agent was not started by the launcher"),
    (
        lambda site: site.operator.roll_out(good(site), kind="model", name="m"),
        "there is no model m in this node's configuration",
    ),
    (lambda site: site.operator.roll_out(good(site), unpacked_bytes=1), "bytes, declared are 1"),
]


class Seldom0:
    """Lets all through."""

    held_back = 0

    def speaks(self, _now_s: float) -> bool:
        return True


def test_it_is_refused_with_its_reason_and_what_runs_goes_on(
    site: Any, eventually: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    # Strangers' nonsense is told once a minute else.
    monkeypatch.setattr("edge.update.record.Seldom", Seldom0)

    async def scenario() -> None:
        async with site.run() as node:
            await eventually(node.told, "births")
            for offend, reason in CASES:
                caplog.clear()
                offend(site)
                await eventually(lambda reason=reason: re.search(reason, caplog.text), reason)
            served = len(site.served)
            await eventually(lambda: len(site.served) > served, "the source is polled")
            desired = site.operator.roll_out(good(site))
            await eventually(lambda: "confirmed" in node.states(desired.counter), "the next is taken all the same")
            assert node.agent.wants_restart is False

    asyncio.run(scenario())
    assert site.left_behind() == []
