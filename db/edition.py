"""What depends on TimescaleDB's edition, read from the server at every migrate and never guessed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import psycopg2
from psycopg2 import sql

from db import community

if TYPE_CHECKING:
    from psycopg2.extensions import connection, cursor

logger = logging.getLogger(__name__)

APACHE: Final = "apache"
# The job table's schema: up to 2.19, and since.
_JOB_SCHEMAS: Final = ("_timescaledb_config", "_timescaledb_catalog")
_CONTINUOUS: Final = "select exists (select from timescaledb_information.continuous_aggregates)"
_HISTORY_JOB: Final = "policy_job_stat_history_retention"


def settle(opened: connection) -> None:
    """Bring the database in line with its edition; safe to repeat."""
    with opened.cursor() as cursor:
        cursor.execute("select current_setting('timescaledb.license', true)")
        (edition,) = cursor.fetchone() or (None,)
        if edition == APACHE:
            _unschedule_history_job(cursor)
            _tell_of_community_parts(cursor)
        cursor.execute("select to_regclass('retention') is not null")
        (migrated,) = cursor.fetchone() or (False,)
    if edition != APACHE and migrated:
        community.settle(opened)


def _tell_of_community_parts(cursor: cursor) -> None:
    cursor.execute(_CONTINUOUS)
    (found,) = cursor.fetchone() or (False,)
    if found:
        logger.warning(
            "this database was set up under TimescaleDB's Community edition, and its licence is now apache: roll-ups, "
            "retention and compression stand still until timescaledb.license is 'timescale' again"
        )


def _unschedule_history_job(cursor: cursor) -> None:
    """Stop a built-in job that the Apache edition ships and that fails there on every run.

    alter_job is itself a Community function, so the job table is written directly, which takes a superuser.
    """
    for schema in _JOB_SCHEMAS:
        try:
            cursor.execute(
                sql.SQL("update {} set scheduled = false where proc_name = %s and scheduled").format(
                    sql.Identifier(schema, "bgw_job")
                ),
                (_HISTORY_JOB,),
            )
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            continue
        except psycopg2.errors.InsufficientPrivilege:
            logger.info(
                "TimescaleDB's job %s stays scheduled: only a superuser may stop it; it is harmless", _HISTORY_JOB
            )
        return
