"""The dashboards, one a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.boards import cameras, fleet, home, market, node, pipeline, plant, weather

if TYPE_CHECKING:
    from grafana.board import Board


def boards() -> tuple[Board, ...]:
    """All of them, as the list of dashboards has them."""
    return tuple(each.board() for each in (home, fleet, node, plant, market, weather, cameras, pipeline))
