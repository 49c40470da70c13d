"""What `python -m db status` says beyond the migrations: how far roll-ups are, how large tables, how long kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from psycopg2.extensions import connection

_ROLL_UPS: Final = """
select case when pg_get_viewdef('reading_1m'::regclass) like '%_continuous%'
  then (select 'continuous aggregates, brought up to date '
               || coalesce(extract(epoch from now() - min(last_successful_finish))::int || ' s ago', 'never')
        from timescaledb_information.jobs join timescaledb_information.job_stats using (job_id)
        where proc_name = 'policy_refresh_continuous_aggregate')
  else (select count(*) || ' notes wait for `db maintain`'
               || coalesce(', the oldest for ' || extract(epoch from now() - min(noted_at))::int || ' s', '')
        from rollup_pending) end
"""
_TABLES: Final = """
select r.table_name, coalesce(r.keep::text, 'forever'), c.chunks, c.compressed,
       case when c.chunks is null then pg_total_relation_size(r.table_name::regclass)
            else hypertable_size(r.table_name::regclass) end
from retention r
left join (
  select h.hypertable_name, count(c) as chunks, count(c) filter (where c.is_compressed) as compressed
  from timescaledb_information.hypertables h left join timescaledb_information.chunks c using (hypertable_name)
  group by 1) c on c.hypertable_name = r.table_name
where to_regclass(r.table_name) is not null
order by 5 desc, 1
"""


def lines(opened: connection) -> list[str]:
    """The report, a line each; empty before the tables are there."""
    with opened.cursor() as cursor:
        cursor.execute("select to_regclass('retention') is not null")
        if not (cursor.fetchone() or (False,))[0]:
            return []
        cursor.execute(_ROLL_UPS)
        (roll_ups,) = cursor.fetchone() or ("",)
        cursor.execute(_TABLES)
        tables = cursor.fetchall()
    told = [f"roll-ups: {roll_ups}", f"{'table':<16} {'MB':>10} {'chunks':>7} {'in columns':>10}  kept"]
    for name, keep, chunks, compressed, size_bytes in tables:
        counts = (f"{'-':>7} {'-':>10}") if chunks is None else f"{chunks:>7} {compressed:>10}"
        told.append(f"{name:<16} {size_bytes / 1e6:>10.1f} {counts}  {keep}")
    return told
