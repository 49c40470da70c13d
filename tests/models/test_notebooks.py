"""The notebooks run in a fresh kernel as a person's would, and show their pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient
from rich.console import Console

from models.data import load
from models.errors import DataError
from models.options import DATA, Options

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "models" / "notebooks"
NEEDS = {"forecast": ("stocks-daily", 7), "anomaly": ("plant", 6), "quantization": ("stocks-daily", 2)}


def test_each_notebook_is_run_here() -> None:
    assert {path.stem for path in PLACE.glob("*.py")} == NEEDS.keys()


@pytest.mark.parametrize("name", NEEDS)
def test_notebook_runs_and_shows_its_plots(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, pictures = NEEDS[name]
    fetch(dataset)
    monkeypatch.setenv("HEADWATER_QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", os.fspath(ROOT))
    outputs = run(name)
    drawn = [each for each in outputs if "image/png" in each.get("data", {})]
    assert len(drawn) >= pictures
    assert [each["text"] for each in outputs if each.get("name") == "stderr"] == []
    assert not any("<matplotlib" in each.get("data", {}).get("text/plain", "") for each in outputs if each not in drawn)


def fetch(dataset: str) -> None:
    try:
        load(dataset, Options(console=Console(quiet=True), data=ROOT / DATA, quick=True))
    except DataError as exc:
        if "no package index answers" not in str(exc):
            raise
        pytest.skip(str(exc))


def run(name: str) -> list[Any]:
    notebook = jupytext.read(PLACE / f"{name}.py")
    assert notebook.metadata.kernelspec.name == "python3"
    place = {"metadata": {"path": os.fspath(PLACE)}}
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources=place).execute()
    return [each for cell in notebook.cells if cell.cell_type == "code" for each in cell.outputs]
