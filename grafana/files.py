"""The dashboards as files: what is committed is what Grafana reads, and never differs from its Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.boards import boards

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grafana.board import Board

DIRECTORY: Final = Path(__file__).with_name("dashboards")


def rendered(board: Board) -> str:
    """A dashboard as JSON; the same each time."""
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def file_name(board: Board) -> str:
    """Of the dashboard with the uid `headwater-fleet`: `fleet.json`."""
    return board.uid.removeprefix("headwater-") + ".json"


def write(directory: Path = DIRECTORY) -> list[Path]:
    """Write what differs, and remove the files of dashboards that there are no more; which these were."""
    wanted = {directory / file_name(board): rendered(board) for board in boards()}
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], "utf-8")
    gone = [path for path in sorted(directory.glob("*.json")) if path not in wanted]
    for path in gone:
        path.unlink()
    return changed + gone


def differing(directory: Path = DIRECTORY) -> Iterator[str]:
    """What is wrong with the files, a line each."""
    wanted = {directory / file_name(board): rendered(board) for board in boards()}
    for path, text in wanted.items():
        if not path.is_file():
            yield f"{path.name} is missing"
        elif path.read_text("utf-8") != text:
            yield f"{path.name} differs from its Python"
    for path in sorted(directory.glob("*.json")):
        if path not in wanted:
            yield f"{path.name} is of no dashboard that there is"
