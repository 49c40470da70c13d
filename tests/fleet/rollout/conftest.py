"""A site of simulated nodes at a real broker and a real database: some do well, some badly, some never answer.

What they tell is written into the tables as the stream writes it; who rolls out sees no difference.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import psycopg2
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from psycopg2.extensions import make_dsn, parse_dsn

from contract.update import opened
from contract.update_news import UpdateNews, UpdateState
from db import migrate, roles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from contract.update import Desired
    from stack import Timescale

_groups = itertools.count(1)
PASSWORD = "an operator's password"
# How a node answers to what it is asked.
WELL, ROLLS_BACK, REFUSES, NEVER = "well", "rolls back", "refuses", "never"


@dataclass
class Site:
    """Nodes of a group; `behaviour` says how each answers, well where nothing is said."""

    broker: tuple[str, int]
    dsn: str
    group: str
    key: Ed25519PrivateKey
    nodes: Sequence[str]
    behaviour: dict[str, str] = field(default_factory=dict)
    # What each node has got, and the states that were asked of it and taken back again.
    got: dict[str, list[bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    faults: list[Exception] = field(default_factory=list)
    tls: Any = None
    client_id: str = ""

    def start(self) -> None:
        self.lock = threading.RLock()
        self.away: set[str] = set()
        self.database = psycopg2.connect(self.dsn)
        self.database.autocommit = True
        self.client = paho.Client(CallbackAPIVersion.VERSION2, self.client_id, protocol=paho.MQTTv5)
        if self.tls is not None:
            self.client.tls_set_context(self.tls)
        self.client.on_message = self._on_message
        self.client.connect(*self.broker)
        self.client.subscribe([(f"headwater/{self.group}/desired/#", 1), (f"headwater/{self.group}/blob/#", 1)])  # type: ignore[list-item]  # paho wants options or numbers
        self.client.loop_start()
        for node in self.nodes:
            self.present(node, online=True)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()
        self.database.close()
        assert self.faults == []

    def present(self, node: str, *, online: bool) -> None:
        """A node comes, and takes what waits for it, or goes."""
        with self.lock:
            (self.away.discard if online else self.away.add)(node)
            self.run(
                "insert into node (group_id, node_id, first_seen_at, last_seen_at, online, last_death_at) "
                "values (%s, %s, now(), now(), %s, case when %s then null else now() end) "
                "on conflict (group_id, node_id) do update set online = excluded.online, "
                "last_death_at = coalesce(excluded.last_death_at, node.last_death_at)",
                self.group,
                node,
                online,
                online,
            )
            for topic, payload in list(self.retained.items()):
                if online and topic.split("/")[2:4] == ["desired", node] and "/blob/" not in topic:
                    self._take(node, payload)

    def tell(self, node: str, news: UpdateNews) -> None:
        """As the stream stores what a node tells."""
        self.tell_text(node, f"Update/{news.kind}/{news.name}", news.to_text())

    def tell_text(self, node: str, metric: str, text: str) -> None:
        self.run(
            "insert into series (group_id, node_id, device_id, metric, kind, datatype) "
            "values (%s, %s, '', %s, 'text', 12) on conflict do nothing",
            self.group,
            node,
            metric,
        )
        self.run(
            "insert into reading_text select series_id, clock_timestamp(), %s, 192 from series "
            "where (group_id, node_id, device_id, metric) = (%s, %s, '', %s)",
            text,
            self.group,
            node,
            metric,
        )

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.lock, self.database.cursor() as at:
            at.execute(statement, values or None)
            return at.fetchall() if at.description else []

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            with self.lock:
                if message.payload:
                    self.retained[message.topic] = message.payload
                else:
                    self.retained.pop(message.topic, None)
                _, _, what, node, kind = message.topic.split("/")[:5]
                if what == "desired" and kind != "blob":
                    self._hear(node, message.payload)
        except Exception as exc:  # noqa: BLE001 - paho would swallow it: told when the site stops
            self.faults.append(exc)

    def _hear(self, node: str, payload: bytes) -> None:
        if not payload:
            self.withdrawn.append(node)
        elif node not in self.away:
            self._take(node, payload)

    def _take(self, node: str, payload: bytes) -> None:
        self.asked.append(node)
        self.got.setdefault(node, []).append(payload)
        desired = opened(payload, [self.key.public_key()], node)
        assert desired.target.is_for(self.group, node)
        match self.behaviour.get(node, WELL):
            case "well":
                self._tell_states(node, desired, UpdateState.FETCHING, UpdateState.TRYING, UpdateState.CONFIRMED)
            case "rolls back":
                self._tell_states(node, desired, UpdateState.TRYING, UpdateState.ROLLED_BACK)
            case "refuses":
                self._tell_states(node, desired, UpdateState.REFUSED)

    def _tell_states(self, node: str, desired: Desired, *states: UpdateState) -> None:
        for state in states:
            running = desired.version if state == UpdateState.CONFIRMED else "0"
            reason = "it does not start" if state in (UpdateState.ROLLED_BACK, UpdateState.REFUSED) else None
            self.tell(
                node,
                UpdateNews(desired.kind, desired.name, desired.counter, desired.version, running, state, reason),
            )

    def content(self, desired: Desired) -> bytes:
        """What the chunks at the broker make, each sure to be the one that was signed."""
        return b"".join(self.retained[desired.chunk_topic(number)] for number in range(len(desired.chunks)))

    def desired_at_broker(self) -> set[str]:
        """The nodes for which something is retained."""
        return {topic.split("/")[3] for topic in self.retained if topic.split("/")[2] == "desired"}


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Waits for a condition; fails when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.02)


@pytest.fixture
def wait() -> Callable[..., None]:
    """Waits for a condition; fails when it does not come."""
    return until


@pytest.fixture(scope="session")
def fleet_database(timescale: Timescale) -> Iterator[str]:
    """A migrated database that the tests share, each with a group of its own: the superuser's DSN."""
    name = f"rollouts_{os.getpid()}"
    dsn = timescale.create_database(name)
    migrate.migrate(dsn, 10)
    roles.allow_login(dsn, "headwater_operator", PASSWORD, 10)
    yield dsn
    timescale.drop_database(name)


@pytest.fixture
def operator_dsn(fleet_database: str) -> str:
    """As who rolls out connects."""
    return make_dsn(**(parse_dsn(fleet_database) | {"user": "headwater_operator", "password": PASSWORD}))


@pytest.fixture
def group() -> str:
    return f"rollout-{next(_groups)}"


@pytest.fixture
def site_class() -> type[Site]:
    """For a site at another broker."""
    return Site


@pytest.fixture
def ask(fleet_database: str) -> Callable[..., list[tuple[Any, ...]]]:
    """Runs a statement as the superuser."""

    def run(statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(fleet_database)) as database, database, database.cursor() as at:
            at.execute(statement, values or None)
            return at.fetchall() if at.description else []

    return run
