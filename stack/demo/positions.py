"""Where the demo's nodes stand: nothing on the wire says so, so that whoever runs a fleet enters it."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import psycopg2

from stack.demo.layout import GROUP, NODES

# Site, latitude, longitude; the first where its weather is.
_POSITIONS: Final = (("Intake", 52.52, 13.41), ("Treatment", 52.545, 13.355), ("Gate", 52.49, 13.47))


def enter(dsn: str) -> None:
    """Fills the map of the fleet; the connection has to be one that may write."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into node_position (group_id, node_id, site, latitude, longitude) values (%s, %s, %s, %s, %s)",
            [(GROUP, node, *position) for node, position in zip(NODES, _POSITIONS, strict=True)],
        )
