"""A site of simulated nodes at a real broker and a real database: some do well, some badly, some never answer.

What they tell is written into the tables as the stream writes it; who rolls out sees no difference.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import psycopg2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion
from psycopg2.extensions import make_dsn, parse_dsn

from contract.update import CHUNK_BYTES, opened
from contract.update_news import UpdateNews, UpdateState
from db import migrate, roles
from fleet.registry import Registry
from fleet.rollout.books import Books
from fleet.rollout.desk import Desk
from fleet.rollout.drive import Driver, Event
from fleet.rollout.plan import Amount
from fleet.rollout.start import Wish, begin, planned
from fleet.session import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from contract.update import Desired
    from fleet.rollout.judge import Rollout
    from stack import Mosquitto, Timescale

_groups = itertools.count(1)
EVERY_S = 0.02
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
def desk(tmp_path: Path, mosquitto: Mosquitto, group: str) -> Desk:
    """An operator's desk without the certificates."""
    (tmp_path / "artifacts").mkdir()

    @contextmanager
    def lent() -> Iterator[Broker]:
        yield Broker(mosquitto.host, mosquitto.port, f"operator-{group}", None, 5.0)

    return Desk(Ed25519PrivateKey.generate(), tmp_path / "artifacts", lent)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry.sqlite")
    made.make()
    return made


@pytest.fixture
def site(
    mosquitto: Mosquitto, fleet_database: str, group: str, desk: Desk, registry: Registry
) -> Iterator[Callable[..., Site]]:
    """Makes the site: `site(5)` nodes, `site(5, n2="never")`."""
    made: list[Site] = []

    def make(nodes: int, **behaviour: str) -> Site:
        names = [f"n{number}" for number in range(1, nodes + 1)]
        for name in names:
            registry.add_node(f"{name}", group)
        one = Site((mosquitto.host, mosquitto.port), fleet_database, group, desk.key, names, behaviour)
        one.start()
        made.append(one)
        return one

    yield make
    for each in made:
        each.stop()


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


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An update of two and a half chunks."""
    file = tmp_path / "model"
    file.mkdir()
    # What gzip cannot make smaller.
    number, content = 1, bytearray()
    while len(content) < CHUNK_BYTES * 2.5:
        number = number * 6364136223846793005 + 1442695040888963407 & (2**64 - 1)
        content += (number >> 16).to_bytes(6, "big")
    (file / "weights").write_bytes(content)
    (file / "manifest.json").write_text('{"version": "2"}')
    return file


@pytest.fixture
def start(group: str, source: Path, registry: Registry, desk: Desk, operator_dsn: str) -> Callable[..., int]:
    """Begins a roll-out; its number."""

    def make(stages: str = "canary:1,50%,100%", max_failed: str = "0", **changes: Any) -> int:
        wish = Wish(
            kind="model",
            name="tank",
            file=source,
            version="2",
            group=group,
            nodes=None,
            stages=stages,
            max_failed=Amount.parse(max_failed, "test"),
            soak=timedelta(0),
            within=timedelta(minutes=5),
            lasting=timedelta(minutes=5),
            url=None,
        )
        with Books.open(operator_dsn) as books:
            wish = replace(wish, **changes)
            with planned(wish, registry, books, desk, to_keep=True) as plan:
                return begin(plan, registry, books, desk)

    return make


class Driven:
    """A roll-out that is driven in a thread, and what was told of it."""

    def __init__(self, dsn: str, desk: Desk, number: int, look_at_broker_s: float = 60) -> None:
        self.events: list[Event] = []
        self.faults: list[BaseException] = []
        self.result: Rollout | None = None
        self._driver = Driver(dsn, desk, number, self.events.append, look_at_broker_s)
        self._driver.__enter__()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._driver.run(EVERY_S)
        except BaseException as exc:  # noqa: BLE001 - told by `end`
            self.faults.append(exc)
        finally:
            self._driver.__exit__(None, None, None)

    def has(self, what: str, node: str | None = None) -> bool:
        return any((event.what, event.node) == (what, node) for event in self.events)

    def end(self) -> Rollout:
        self._thread.join(60)
        assert not self._thread.is_alive(), self.events
        assert self.faults == []
        assert self.result is not None
        return self.result


@pytest.fixture
def drive(operator_dsn: str, desk: Desk) -> Callable[..., Driven]:
    """Drives one in a thread of its own."""

    def begin_to(number: int, at: Desk = desk, look_at_broker_s: float = 60) -> Driven:
        return Driven(operator_dsn, at, number, look_at_broker_s)

    return begin_to


@pytest.fixture
def run(operator_dsn: str, desk: Desk) -> Callable[[int], Rollout]:
    """Drives it to its end."""

    def do(number: int) -> Rollout:
        with Driver(operator_dsn, desk, number, lambda _: None) as driver:
            return driver.run(EVERY_S)

    return do
