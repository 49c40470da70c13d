"""Simulated history: made once by the simulators' command, kept by its arguments, and not believed unseen."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.data import load, simulated
from models.data.arrays import write_arrays
from models.data.simulated import read_history
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from models.options import Options


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """All simulations are of a thousand steps or so."""
    made = {
        name: replace(each, steps=1500, quick_steps=1200, seeds=dict([*each.seeds.items()][:2]))
        for name, each in simulated._SIMULATIONS.items()
    }
    monkeypatch.setattr(simulated, "_SIMULATIONS", made)


def arrays(steps: int = 4) -> dict[str, np.ndarray]:
    empty = np.array([], np.int64)
    return {
        "format": np.array(1),
        "at_ms": np.arange(steps, dtype=np.int64) * 1000,
        "values": np.zeros((steps, 2)),
        "names": np.array(["a", "b"]),
        "units": np.array(["m", ""]),
        "incident_kind": np.array([], np.str_),
        "incident_what": np.array([], np.str_),
        "incident_start_ms": empty,
        "incident_end_ms": empty,
    }


def test_plant_with_faults_is_made_once_and_kept(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load("plant-faults", options)
    assert [table.key for table in dataset.tables] == ["plant-201", "plant-202"]
    assert dataset.tables[0].steps.values.shape == (1200, len(dataset.columns))
    assert dataset.units["tank1/level"] == "m"
    assert all(each.what and each.kind for table in dataset.tables for each in table.incidents)
    assert any(table.incidents for table in dataset.tables)
    kept = sorted(path.name for path in (options.data / "simulated").iterdir())
    assert len(kept) == 2
    assert kept[0].startswith("plant_seed=201_steps=1200")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("simulated again"))
    assert load("plant-faults", options).sha256 == dataset.sha256


def test_exchange_is_a_table_a_symbol(options: Options) -> None:
    dataset = load("exchange", options)
    assert [table.key for table in dataset.tables] == ["AAPL", "MSFT", "IBM"]
    assert dataset.columns == ("price", "high", "low")
    for table in dataset.tables:
        price, high, low = table.steps.values.T
        assert ((low <= price) & (price <= high)).all()


def test_more_than_quick_is_another_file(options: Options) -> None:
    load("exchange", options)
    assert len(load("exchange", replace(options, quick=False)).tables[0].steps.at_ms) == 1500
    assert len(list((options.data / "simulated").iterdir())) == 2


def test_failing_simulator_is_told_in_a_line(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"plant": replace(simulated._SIMULATIONS["plant"], arguments=("--day=-1",))}
    monkeypatch.setattr(simulated, "_SIMULATIONS", made)
    with pytest.raises(DataError, match=r"^simulators history plant: --day: found -1: allowed is more than 0$"):
        load("plant", options)


def test_damaged_file_is_refused_and_made_again(options: Options) -> None:
    before = load("exchange", options).sha256
    (kept,) = (options.data / "simulated").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"^{kept.name}: "):
        load("exchange", options)
    assert load("exchange", options).sha256 == before


@pytest.mark.parametrize(
    "change",
    [
        {"format": np.array(2)},
        {"values": np.zeros((3, 2))},
        {"values": np.zeros((4, 3))},
        {"values": np.zeros(4)},
        {"values": np.zeros((4, 2), int)},
        {"at_ms": np.array([0, 1000, 1000, 2000])},
        {"at_ms": np.zeros((4, 2), int)},
        {"units": np.array(["m"])},
        {"names": np.array([1, 2])},
        {"incident_kind": np.array(["leak"])},
    ],
)
def test_history_that_does_not_fit_together_is_refused(change: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "h.npz"
    write_arrays(path, arrays(), {})
    read_history(path.read_bytes(), "h.npz", 4)
    write_arrays(path, arrays() | change, {})
    with pytest.raises(DataError, match=r"^h\.npz: "):
        read_history(path.read_bytes(), "h.npz", 4)


def test_pickle_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "h.npz"
    np.savez(path, **(arrays() | {"names": np.array([print, "b"], object)}))
    with pytest.raises(DataError, match=r"^h\.npz: names is not of the kind"):
        read_history(path.read_bytes(), "h.npz", 4)


def test_pickle_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "h.npz", {"a": np.array([print], object)}, {})
    assert list(tmp_path.iterdir()) == []


def test_array_that_says_more_than_it_has_is_refused(zipped: Callable[[Mapping[str, bytes]], bytes]) -> None:
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<i8', 'fortran_order': False, 'shape': (9999999999999,), }"
    content = zipped({"format.npy": header.ljust(127) + b"\n" + b"0" * 80})
    with pytest.raises(DataError, match=r"^h\.npz: format is not of the kind or size"):
        read_history(content, "h.npz", 4)
