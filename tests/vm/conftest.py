"""A device and its operator's desk, for tests that are one story: each goes on where the one before has ended."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from stack import Kafka, Timescale


def load(name: str) -> ModuleType:
    """A module that lies here; tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"vm_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def desk(kafka: Kafka, timescale: Timescale, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An operator's machine, with all that stands behind a fleet."""
    database = timescale.create_database("vm_test")
    with contextlib.ExitStack() as ends:
        ends.callback(timescale.drop_database, "vm_test")
        yield load("desk").Desk(tmp_path_factory.mktemp("desk"), kafka, database, ends)


@pytest.fixture
def judged(desk: Any, tmp_path: Path) -> Callable[[list[int]], Any]:
    """What has become of all that the plant has answered, for a device that was switched on again at these times."""
    clock = load("clock")

    def judge(cuts_ms: list[int]) -> Any:
        ledger = tmp_path / "its-time.jsonl"
        clock.retimed(desk.ledger, desk.values(), cuts_ms, ledger)
        return desk.reconciled(ledger)

    return judge


@pytest.fixture(scope="module")
def device(desk: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A device with a card of `fleet flash`, switched on."""
    card = load("card")
    assert card.PREPARED.exists(), "run it by `make vm-test`"
    folder = tmp_path_factory.mktemp("device")
    found = load("pi").Device(card.Card(desk.flash(card.PREPARED, folder / "card.img")), folder)
    found.power_on()
    try:
        yield found
    finally:
        found.cut_power()
        print("\n" + "\n".join(found.notes))
