"""The notebooks run in a fresh kernel as a person's would, and show their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from models.data import load
from models.errors import DataError
from models.options import DATA, Options

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
PLACE = ROOT / "models" / "notebooks"
NEEDS = {"forecast": ("stocks-daily", 7), "anomaly": ("plant", 6), "quantization": ("stocks-daily", 2)}


def test_each_notebook_is_run_here() -> None:
    assert {path.stem for path in PLACE.glob("*.py")} == {*NEEDS, "database"}


@pytest.mark.parametrize("name", NEEDS)
def test_notebook_runs_and_shows_its_plots(
    name: str, execute: Callable[[str], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, pictures = NEEDS[name]
    fetch(dataset)
    monkeypatch.setenv("HEADWATER_QUICK", "1")
    outputs = execute(name)
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
