"""Roll-outs that are begun and driven, from a desk without certificates."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.update import CHUNK_BYTES
from fleet.registry import Registry
from fleet.rollout.books import Books
from fleet.rollout.desk import Desk
from fleet.rollout.drive import Driver, Event
from fleet.rollout.plan import Amount
from fleet.rollout.start import Wish, begin, planned
from fleet.session import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet.rollout.judge import Rollout
    from stack import Mosquitto

EVERY_S = 0.02


@pytest.fixture
def desk(tmp_path: Path, mosquitto: Mosquitto, group: str) -> Desk:
    """An operator's desk without the certificates."""
    (tmp_path / "artifacts").mkdir()

    @contextmanager
    def lent() -> Iterator[Broker]:
        yield Broker(mosquitto.host, mosquitto.port, f"operator-{group}", None, patience_s=5.0, silence_s=5.0)

    return Desk(Ed25519PrivateKey.generate(), tmp_path / "artifacts", lent)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry.sqlite")
    made.make()
    return made


@pytest.fixture
def site(
    mosquitto: Mosquitto, fleet_database: str, group: str, desk: Desk, registry: Registry, site_class: Any
) -> Iterator[Callable[..., Any]]:
    """Makes the site: `site(5)` nodes, `site(5, n2="never")`."""
    made: list[Any] = []

    def make(nodes: int, **behaviour: str) -> Any:
        names = [f"n{number}" for number in range(1, nodes + 1)]
        for name in names:
            registry.add_node(f"{name}", group)
        one = site_class((mosquitto.host, mosquitto.port), fleet_database, group, desk.key, names, behaviour)
        one.start()
        made.append(one)
        return one

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def source(tmp_path: Path, group: str) -> Path:
    """An update of two and a half chunks, of this test alone: a file that another one needs would stay."""
    file = tmp_path / "model"
    file.mkdir()
    # What gzip cannot make smaller.
    number, content = int.from_bytes(group.encode()[-8:], "big"), bytearray()
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
