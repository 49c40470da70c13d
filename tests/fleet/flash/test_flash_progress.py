"""How far a card is, told while it is written and read back."""

from __future__ import annotations

import contextlib
import io
import lzma
import os
from typing import TYPE_CHECKING, Any

from fleet.flash import Load, flash
from fleet.flash.progress import Progress
from fleet.flash.target import file_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_it_tells_share_rate_and_time_left() -> None:
    now = iter([0.0, 5.0, 15.0, 25.0])
    out = io.StringIO()
    with Progress(out, lambda: next(now)).phase("writing", 1200 << 20) as advance:
        advance(100 << 20)
        advance(300 << 20)
        advance((1200 << 20) - 1)
    assert out.getvalue() == "writing: 25%, 20.0 MiB/s, 45 s left\nwriting: 99%, 48.0 MiB/s, 0 s left\n"


def test_it_is_of_what_is_on_the_card_and_not_of_what_is_read(
    make_card: Callable[..., Any], load: Load, tmp_path: Path
) -> None:
    """What is empty is packed to next to nothing, and read long before it is written."""
    image = tmp_path / "image.xz"
    image.write_bytes(lzma.compress(make_card().path.read_bytes(), preset=0))
    target = tmp_path / "target.img"
    half = tmp_path / f".target.img.{os.getpid()}.part"
    told: dict[str, list[tuple[int, int]]] = {}

    class Seen(Progress):
        @contextlib.contextmanager
        def phase(self, what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
            assert total_bytes > image.stat().st_size
            steps = told.setdefault(what, [])
            yield lambda done_bytes: steps.append((done_bytes, half.stat().st_size))

    flash(image, file_target(target, replace=False), load, Seen(None))
    whole = target.stat().st_size
    assert all(done == there for done, there in told["writing"])
    assert len(told["writing"]) > 3
    assert [steps[-1][0] for steps in (told["writing"], told["checking"])] == [whole, whole]
