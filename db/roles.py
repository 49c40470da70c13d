"""Letting a role log in."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from db import server
from db.errors import MigrationError, SettingsError

ROLES: Final = (
    "headwater_owner",
    "headwater_writer",
    "headwater_reader",
    "headwater_maintainer",
    "headwater_operator",
)
_SHORTEST_PASSWORD: Final = 8


def allow_login(dsn: str, role: str, password: str, wait_s: float) -> None:
    """Give a role a password and let it log in.

    The SCRAM verifier is made here, so the password itself reaches neither the server nor its log.
    """
    if len(password) < _SHORTEST_PASSWORD:
        raise SettingsError(f"the password for {role} has {len(password)} characters: at least {_SHORTEST_PASSWORD}")
    with closing(server.connect(dsn, wait_s)) as opened, opened.cursor() as cursor:
        verifier = encrypt_password(password, role, opened, "scram-sha-256")
        statement = sql.SQL("alter role {} login password {}").format(sql.Identifier(role), sql.Literal(verifier))
        try:
            cursor.execute(statement)
        except psycopg2.errors.UndefinedObject as exc:
            raise MigrationError(f"there is no role {role}: run `python -m db migrate` first") from exc
