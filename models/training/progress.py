"""How far a training is, on the console."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from models.recipe import Recipe
    from models.training.loop import OnEpoch


@contextmanager
def epochs_shown(recipe: Recipe, console: Console) -> Iterator[OnEpoch]:
    """A bar of epochs with the last losses, which goes when the training is over."""
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    columns += (TextColumn("{task.fields[losses]}"),)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"training {recipe.name}", total=recipe.fit.epochs, losses="")

        def on_epoch(number: int, train: float, valid: float) -> None:
            progress.update(task, completed=number, losses=f"loss {train:.4f}, in validation {valid:.4f}")

        yield on_epoch
