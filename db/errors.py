"""Errors of the database role.

DbError
├── SettingsError      the environment does not say which database, or which password
├── ServerError        the server cannot be reached, or cannot hold Headwater
└── MigrationError     a migration could not be applied, or another run holds the lock
"""

from __future__ import annotations


class DbError(Exception):
    """Something that an operator has to see to; the message says what and how."""


class SettingsError(DbError):
    """A wrong use: the environment or an argument is not what is needed."""


class ServerError(DbError):
    """A server that cannot be reached, is too old, or has no TimescaleDB."""


class MigrationError(DbError):
    """A migration that failed (it is rolled back whole), or a lock that did not come free."""
