"""What a roll-out needs of the operator's directory: who we are, what signs, and where files are kept."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.config import parse_config
from contract.update import CHUNK_BYTES, PRIVATE_KINDS, Desired, blob_topic, desired_topic, signed
from fleet.errors import FleetError
from fleet.rollout.artifact import Artifact, kept_at
from fleet.session import Broker, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from fleet.home import Home
    from fleet.rollout.judge import Rollout

_FOLDER: Final = "artifacts"


@dataclass(frozen=True, slots=True)
class Desk:
    """An operator's means; `broker` lends an identity for as long as a connection lasts."""

    key: Ed25519PrivateKey
    artifacts: Path
    broker: Callable[[], AbstractContextManager[Broker]]

    @classmethod
    def of(cls, home: Home) -> Desk:
        """That of a fleet."""

        @contextmanager
        def lent() -> Iterator[Broker]:
            with home.operator() as operator:
                yield Broker(operator.host, operator.port, operator.name, operator.tls())

        return cls(home.update_key(), home.path / _FOLDER, lent)

    def artifact(self, rollout: Rollout) -> Artifact:
        """The file of a roll-out, made sure of; raises FleetError."""
        path = kept_at(self.artifacts, rollout.sha256)
        found = Artifact.read(path, rollout.unpacked_bytes, by_url=rollout.url is not None)
        if found.sha256 != rollout.sha256:
            raise FleetError(f"{path}: is not what roll-out {rollout.rollout_id} was started with")
        return found

    def forget(self, sha256: str) -> None:
        """A file is no longer needed."""
        kept_at(self.artifacts, sha256).unlink(missing_ok=True)

    def put_chunks(self, rollout: Rollout, artifact: Artifact) -> None:
        """Has the broker keep what the devices of a group fetch from it; raises FleetError, as all that goes there."""
        self._publish(zip(_chunk_topics(rollout), artifact.content(), strict=False))

    def take_chunks(self, rollout: Rollout) -> None:
        """Takes that away again."""
        self._publish((topic, b"") for topic in _chunk_topics(rollout))

    def put_desired(self, rollout: Rollout, artifact: Artifact, nodes: Iterable[str]) -> None:
        """Has the broker keep what is asked of nodes, after what each of them alone fetches."""
        self._publish(message for node in nodes for message in self._asked(rollout, artifact, node))

    def take_desired(self, rollout: Rollout, nodes: Sequence[str]) -> None:
        """Takes that away again."""
        if nodes:
            topics = ((_topic(rollout, node), *_chunk_topics(rollout, node)) for node in nodes)
            self._publish((topic, b"") for of_node in topics for topic in of_node)

    def _asked(self, rollout: Rollout, artifact: Artifact, node: str) -> Iterator[tuple[str, bytes]]:
        yield from zip(_chunk_topics(rollout, node), artifact.content(), strict=False)
        yield _topic(rollout, node), signed(desired(rollout, artifact, node), self.key)

    def is_there(self, rollout: Rollout, nodes: Sequence[str], turn: int) -> bool:
        """Whether the broker still keeps what was put there for nodes, by a sample that is another one each turn.

        A broker that was started anew, or a hand that clears it, loses all, the first or the last: those are always
        looked at.
        """
        node = nodes[turn % len(nodes)]
        chunks = [*_chunk_topics(rollout), *_chunk_topics(rollout, node)]
        sample = {_topic(rollout, node), *chunks[:1], *chunks[-1:], *chunks[turn % max(1, len(chunks)) :][:1]}
        with self.broker() as broker, Session(broker) as session:
            return session.kept(sample) == sample

    def _publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        with self.broker() as broker, Session(broker) as session:
            session.keep(messages)


def desired(rollout: Rollout, artifact: Artifact, node: str) -> Desired:
    """What a node shall run: each time the same bytes; raises ConfigError for what devices would not take."""
    manifest = {
        "kind": rollout.kind,
        "name": rollout.name,
        "version": rollout.version,
        "counter": rollout.counter,
        "sha256": artifact.sha256,
        "size": artifact.size,
        "unpacked_bytes": artifact.unpacked_bytes,
        "chunk_bytes": artifact.chunk_bytes,
        "chunks": artifact.chunks,
        "target": {"group": rollout.group, "node": node},
        "expires_at": rollout.expires_at,
        "url": rollout.url,
    }
    return parse_config(manifest, Desired, "the update")


def _chunk_topics(rollout: Rollout, node: str | None = None) -> list[str]:
    """Where chunks stand that the whole group may read, or this node alone."""
    if rollout.url is not None or (rollout.kind in PRIVATE_KINDS) != (node is not None):
        return []
    count = math.ceil(rollout.size_bytes / CHUNK_BYTES)
    return [blob_topic(rollout.group, rollout.sha256, number, node) for number in range(count)]


def _topic(rollout: Rollout, node: str) -> str:
    return desired_topic(rollout.group, node, rollout.kind, rollout.name)
