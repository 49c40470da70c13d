"""Both sides of an update at once: the operator's roll-out, and a whole agent that takes it at a real broker."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import yaml

from contract.topics import MessageType
from db import migrate
from fleet.registry import Registry
from fleet.rollout.books import Books
from fleet.rollout.desk import Desk
from fleet.rollout.drive import Driver, Event
from fleet.rollout.plan import Amount
from fleet.rollout.start import Wish, begin, planned
from fleet.session import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.rollout.judge import Rollout

GROUP, NODE = "updates", "edge-1"


class Stream:
    """What the pipeline does with what a node tells of its updates: it stands in the tables."""

    def __init__(self, dsn: str, bridge: Any) -> None:
        self._bridge = bridge
        self._done = 0
        self._database = psycopg2.connect(dsn)
        self._database.autocommit = True
        self._at = self._database.cursor()
        self._at.execute(
            "insert into node (group_id, node_id, first_seen_at, last_seen_at, online) "
            "values (%s, %s, now(), now(), true)",
            (GROUP, NODE),
        )

    async def run(self) -> None:
        while True:
            for message in self._bridge.received[self._done :]:
                self._done += 1
                if message.topic.message_type in (MessageType.NDATA, MessageType.NBIRTH):
                    for metric in message.payload.metrics:
                        self._store(metric)
            await asyncio.sleep(0.02)

    def _store(self, metric: Any) -> None:
        if not metric.name.startswith("Update/") or metric.value is None:
            return
        self._at.execute(
            "insert into series (group_id, node_id, device_id, metric, kind, datatype) "
            "values (%s, %s, '', %s, 'text', 12) on conflict do nothing",
            (GROUP, NODE, metric.name),
        )
        self._at.execute(
            "insert into reading_text select series_id, to_timestamp(%s / 1000.0), %s, 192 from series "
            "where metric = %s on conflict do nothing",
            (metric.timestamp_ms, metric.value, metric.name),
        )

    def close(self) -> None:
        self._database.close()


class Operator:
    """A desk, and a group of one node."""

    def __init__(self, dsn: str, desk: Desk, registry: Registry) -> None:
        self.events: list[Event] = []
        self._dsn, self._desk, self._registry = dsn, desk, registry

    def begin(self, file: Path, version: str) -> int:
        wish = Wish(
            kind="config",
            name="config",
            file=file,
            version=version,
            group=GROUP,
            nodes=None,
            stages="100%",
            max_failed=Amount.parse("0", "test"),
            soak=timedelta(0),
            within=timedelta(minutes=1),
            lasting=timedelta(hours=1),
            url=None,
        )
        with (
            Books.open(self._dsn) as books,
            planned(wish, self._registry, books, self._desk, to_keep=True) as plan,
        ):
            return begin(plan, self._registry, books, self._desk)

    def drive(self, number: int) -> Rollout:
        with Driver(self._dsn, self._desk, number, self.events.append) as driver:
            return driver.run(0.05)


@pytest.fixture
def stream(database: str, site: Any) -> Iterator[Stream]:
    migrate.migrate(database, 10)
    made = Stream(database, site.bridge)
    yield made
    made.close()


@pytest.fixture
def operator_at_desk(database: str, site: Any, broker: Any, tmp_path: Path) -> Operator:
    registry = Registry(tmp_path / "registry.sqlite")
    registry.make()
    registry.add_node(NODE, GROUP)
    (tmp_path / "artifacts").mkdir()

    @contextmanager
    def lent() -> Iterator[Broker]:
        yield Broker("127.0.0.1", broker.port, "rollout", None, 5.0)

    return Operator(database, Desk(site.operator.key, tmp_path / "artifacts", lent), registry)


@pytest.fixture
def nobody() -> int:
    """A port at which nobody answers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def test_an_agent_takes_what_is_rolled_out_and_stops_it_when_it_does_not_work(
    site: Any, stream: Stream, operator_at_desk: Operator, nobody: int
) -> None:
    good, broken = site.directory / "good.yaml", site.directory / "broken.yaml"
    # Larger than a chunk: comments that nobody needs.
    good.write_bytes(site.text(sources=site.source(interval_s=0.1)) + b"# of no use\n" * 10_000)
    broken.write_bytes(site.text(sources=site.source(base_url=f"http://127.0.0.1:{nobody}")))

    async def scenario() -> tuple[Rollout, Rollout]:
        storing = asyncio.create_task(stream.run())
        async with site.run():
            first = await asyncio.to_thread(operator_at_desk.drive, operator_at_desk.begin(good, "good"))
            second = await asyncio.to_thread(operator_at_desk.drive, operator_at_desk.begin(broken, "broken"))
        storing.cancel()
        return first, second

    first, second = asyncio.run(scenario())
    assert (first.state, second.state) == ("done", "stopped"), operator_at_desk.events
    assert second.counter > first.counter
    (failure,) = [event for event in operator_at_desk.events if event.what == "failed"]
    assert failure.reason is not None
    assert "source weather is failing" in failure.reason
    assert yaml.safe_load(site.path.read_bytes())["sources"][0]["interval_s"] == 0.1, "the one before is back"
