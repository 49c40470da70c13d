-- Roll-ups of readings by the minute, hour and day, and how long everything is kept.
--
-- The ingest notes in its own transaction which minutes of which series it touched; roll_up() takes notes and makes
-- exactly these buckets anew from `reading`. So whatever comes twice, late or after a kill, a bucket is what a plain
-- aggregate over its readings would say. (The Community edition has continuous aggregates instead: db/community.py.)
-- A bucket is never replaced by one of fewer readings: those that are missing have been dropped by retention.
do $$
begin
  begin
    if not exists (select from pg_roles where rolname = 'headwater_maintainer') then
      create role headwater_maintainer nologin;
    end if;
  exception when duplicate_object or unique_violation then
    null;
  end;
  execute format('grant connect on database %I to headwater_maintainer', current_database());
  grant headwater_reader to headwater_maintainer;
end
$$;

set local role headwater_owner;

-- No index: it is filled by COPY and emptied whole, mostly every minute. Vacuumed by its size alone.
create table rollup_pending (
  minute       timestamptz not null,
  first_series int not null,
  last_series  int not null check (last_series >= first_series),
  noted_at     timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
comment on table rollup_pending is 'what roll_up() has to do: of the series from first_series to last_series some had readings in this minute';
-- Readings of before there were notes. As the ingest does, in runs of 1,024 series at most.
insert into rollup_pending (minute, first_series, last_series)
select time_bucket('1 minute', sampled_at), min(series_id), max(series_id) from reading group by 1, series_id / 1024;

do $$
declare
  rollup text;
  chunk interval;
begin
  -- The hour and the day that run are written again every minute: with room in its page that touches no index.
  for rollup, chunk in values ('rollup_1m', interval '7 days'), ('rollup_1h', '90 days'), ('rollup_1d', '365 days') loop
    execute format($table$
      create table %1$I (
        series_id int not null,
        n_good    int not null,
        bucket_at timestamptz not null,
        sum       double precision,
        min       double precision,
        max       double precision,
        first     double precision,
        first_at  timestamptz,
        last      double precision,
        last_at   timestamptz,
        n_bad     int not null,
        constraint %2$I unique (series_id, bucket_at)
      ) with (fillfactor = %3$s)$table$, rollup, rollup || '_key', case rollup when 'rollup_1m' then 90 else 50 end);
    perform create_hypertable(rollup::regclass, by_range('bucket_at', chunk), create_default_indexes => false);
    execute format($view$
      create view %I as
      select series_id, bucket_at, n_good::bigint as n_good, n_bad::bigint as n_bad, sum / nullif(n_good, 0) as mean,
             min, max, sum, first, first_at, last, last_at
      from %I$view$, replace(rollup, 'rollup', 'reading'), rollup);
  end loop;
end
$$;
comment on view reading_1m is 'readings by the minute: all but n_bad are of the good ones; the same columns on both editions';

-- Inlined where it is called, so that only the branch of the asked width is planned.
create function reading_bucketed(series int[], from_at timestamptz, to_at timestamptz, width interval)
returns table (series_id int, bucket_at timestamptz, n_good bigint, n_bad bigint, mean double precision,
               min double precision, max double precision, first double precision, last double precision)
language sql stable parallel safe as $$
  select r.series_id, time_bucket(width, r.sampled_at), count(*) filter (where quality = 192),
         count(*) filter (where quality <> 192),
         sum(least(greatest(value, -1e290), 1e290)) filter (where quality = 192) / nullif(count(*) filter (where quality = 192), 0),
         min(value) filter (where quality = 192), max(value) filter (where quality = 192),
         first(value, r.sampled_at) filter (where quality = 192), last(value, r.sampled_at) filter (where quality = 192)
  from reading r
  where extract(epoch from width) % 60 <> 0
    and r.series_id = any (series) and r.sampled_at >= time_bucket(width, from_at) and r.sampled_at < to_at
  group by 1, 2
  union all
  select r.series_id, time_bucket(width, r.bucket_at), sum(r.n_good)::bigint, sum(r.n_bad)::bigint,
         sum(r.sum) / nullif(sum(r.n_good), 0)::float8, min(r.min), max(r.max),
         first(r.first, r.first_at) filter (where r.n_good > 0), last(r.last, r.last_at) filter (where r.n_good > 0)
  from reading_1m r
  where extract(epoch from width) % 60 = 0 and extract(epoch from width) % 3600 <> 0
    and r.series_id = any (series) and r.bucket_at >= time_bucket(width, from_at) and r.bucket_at < to_at
  group by 1, 2
  union all
  select r.series_id, time_bucket(width, r.bucket_at), sum(r.n_good)::bigint, sum(r.n_bad)::bigint,
         sum(r.sum) / nullif(sum(r.n_good), 0)::float8, min(r.min), max(r.max),
         first(r.first, r.first_at) filter (where r.n_good > 0), last(r.last, r.last_at) filter (where r.n_good > 0)
  from reading_1h r
  where extract(epoch from width) % 3600 = 0 and extract(epoch from width) % 86400 <> 0
    and r.series_id = any (series) and r.bucket_at >= time_bucket(width, from_at) and r.bucket_at < to_at
  group by 1, 2
  union all
  select r.series_id, time_bucket(width, r.bucket_at), sum(r.n_good)::bigint, sum(r.n_bad)::bigint,
         sum(r.sum) / nullif(sum(r.n_good), 0)::float8, min(r.min), max(r.max),
         first(r.first, r.first_at) filter (where r.n_good > 0), last(r.last, r.last_at) filter (where r.n_good > 0)
  from reading_1d r
  where extract(epoch from width) % 86400 = 0
    and r.series_id = any (series) and r.bucket_at >= time_bucket(width, from_at) and r.bucket_at < to_at
  group by 1, 2
$$;
comment on function reading_bucketed is 'readings of some series in buckets of a width, from the widest roll-up that the width is a multiple of';

create table retention (
  table_name  text primary key,
  time_column text not null,
  keep        interval check (keep >= interval '2 days')
);
comment on table retention is 'how long a table''s rows are kept, by this column of theirs; null: forever';
insert into retention (table_name, time_column, keep) values
  ('reading', 'sampled_at', '90 days'),
  ('reading_text', 'sampled_at', '90 days'),
  ('rollup_1m', 'bucket_at', '365 days'),
  ('rollup_1h', 'bucket_at', null),
  ('rollup_1d', 'bucket_at', null),
  ('camera_event', 'started_at', '30 days'),
  ('dead_letter', 'set_aside_at', '30 days'),
  ('ingest_batch', 'committed_at', '30 days'),
  ('analysis_batch', 'committed_at', '30 days'),
  ('node_status', 'at', '365 days'),
  ('gap', 'declared_at', '365 days'),
  ('node_event', 'at', '365 days'),
  ('late_reading', 'noted_at', '90 days'),
  ('bar', 'starts_at', null),
  ('trend', 'at', '90 days'),
  ('anomaly', 'started_at', null),
  ('forecast', 'made_at', '365 days'),
  ('forecast_score', 'target_at', '365 days');

create function roll_up_level(source text, target text, width interval, ids int[], buckets timestamptz[])
returns bigint language plpgsql set search_path = pg_catalog, public, pg_temp set jit = off as $$
declare
  span record;
  written bigint;
  total bigint := 0;
  -- The sum is of values held within 1e290: two readings of 1e308 would overflow it, and stop the roll-up for good.
  aggregates constant text := case source when 'reading' then
      'count(*) filter (where quality = 192) as n_good, count(*) filter (where quality <> 192) as n_bad,
       sum(least(greatest(value, -1e290), 1e290)) filter (where quality = 192) as sum,
       min(value) filter (where quality = 192) as min, max(value) filter (where quality = 192) as max,
       first(value, sampled_at) filter (where quality = 192) as first, min(sampled_at) filter (where quality = 192) as first_at,
       last(value, sampled_at) filter (where quality = 192) as last, max(sampled_at) filter (where quality = 192) as last_at'
    else
      'sum(n_good) as n_good, sum(n_bad) as n_bad, sum(sum) as sum, min(min) as min, max(max) as max,
       first(first, first_at) filter (where n_good > 0) as first, min(first_at) as first_at,
       last(last, last_at) filter (where n_good > 0) as last, max(last_at) as last_at' end;
begin
  -- By the day, with its times as constants: the plan then has the chunk of that day and no other.
  for span in
    select date_bin('1 day', t.bucket, 'epoch') as starts_at, array_agg(t.id) as ids, array_agg(t.bucket) as buckets
    from unnest(ids, buckets) as t (id, bucket) group by 1 order by 1
  loop
    execute format($statement$
      insert into %1$I as old (series_id, bucket_at, n_good, n_bad, sum, min, max, first, first_at, last, last_at)
      select t.id, t.bucket, n.n_good, n.n_bad, n.sum, n.min, n.max, n.first, n.first_at, n.last, n.last_at
      from unnest($1, $2) as t (id, bucket)
      cross join lateral (
        select %2$s from %3$I r
        where r.series_id = t.id and r.%4$I >= t.bucket and r.%4$I < t.bucket + $3
          and r.%4$I >= %5$L and r.%4$I < %6$L
        having count(*) > 0) as n
      order by t.id, t.bucket
      on conflict (series_id, bucket_at) do update set
        n_good = excluded.n_good, n_bad = excluded.n_bad, sum = excluded.sum, min = excluded.min, max = excluded.max,
        first = excluded.first, first_at = excluded.first_at, last = excluded.last, last_at = excluded.last_at
      where excluded.n_good + excluded.n_bad > old.n_good + old.n_bad
      $statement$, target, aggregates, source, case source when 'reading' then 'sampled_at' else 'bucket_at' end,
      span.starts_at, span.starts_at + interval '24 hours')
    using span.ids, span.buckets, width;
    get diagnostics written = row_count;
    total := total + written;
  end loop;
  return total;
end
$$;

create function roll_up(most_notes int default 10000, most_minutes int default 100000)
returns table (notes bigint, minutes bigint, hours bigint, days bigint, more boolean)
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
  ids int[];
  buckets timestamptz[];
begin
  if not pg_try_advisory_xact_lock(hashtext('headwater maintain')) then
    return;
  end if;
  -- One snapshot takes the notes, and later ones read the readings: those of every note taken are seen. A note
  -- written meanwhile stays for the next time.
  with waiting as (select ctid as note, minute, first_series, last_series from rollup_pending limit most_notes),
  -- Notes of the same run are one piece of work; so_far counts that of the runs before.
  runs as (
    select date_bin('1 minute', minute, 'epoch') as minute, first_series, last_series, array_agg(note) as notes,
           coalesce(sum(last_series - first_series + 1) over (
             order by date_bin('1 minute', minute, 'epoch'), first_series, last_series
             rows between unbounded preceding and 1 preceding), 0) as so_far
    from waiting group by 1, 2, 3),
  chosen as (select * from runs where so_far < most_minutes),
  taken as (
    delete from rollup_pending where ctid = any (array(select unnest(c.notes) from chosen c)) returning minute),
  pairs as (select distinct id, c.minute from chosen c, generate_series(c.first_series, c.last_series) as id)
  select (select count(*) from taken), (select count(*) from taken) < (select count(*) from waiting)
           or (select count(*) from waiting) = most_notes, coalesce(array_agg(id), '{}'), coalesce(array_agg(minute), '{}')
  into notes, more, ids, buckets from pairs;
  minutes := roll_up_level('reading', 'rollup_1m', '1 minute', ids, buckets);
  select coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.hour), '{}') into ids, buckets
  from (select distinct t.id, date_bin('1 hour', t.bucket, 'epoch') as hour from unnest(ids, buckets) as t (id, bucket)) p;
  hours := roll_up_level('rollup_1m', 'rollup_1h', '1 hour', ids, buckets);
  select coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.day), '{}') into ids, buckets
  from (select distinct t.id, date_bin('1 day', t.bucket, 'epoch') as day from unnest(ids, buckets) as t (id, bucket)) p;
  days := roll_up_level('rollup_1h', 'rollup_1d', '1 day', ids, buckets);
  return next;
end
$$;
comment on function roll_up is
  'bring the roll-ups up to what was noted: at most so many notes, and minutes of series; no row while another is at it';

-- Locks `rollup_pending` before chunks of `reading`, in the ingest's order. Who waits for a chunk keeps others waiting:
-- rather than that, it gives up (lock_timeout), and comes back.
create function retain_table(kept_table text, most_rows int default 10000)
returns bigint language plpgsql security definer
set search_path = pg_catalog, public, pg_temp set lock_timeout = '2s' as $$
declare
  rule retention;
  oldest record;
  expired timestamptz;
  removed bigint;
  spared text;
begin
  select * into rule from retention where table_name = kept_table;
  if rule.keep is null or to_regclass(kept_table) is null
     or not pg_try_advisory_xact_lock(hashtext('headwater maintain')) then
    return 0;
  end if;
  expired := now() - rule.keep;
  if exists (select from timescaledb_information.hypertables where hypertable_name = kept_table) then
    if current_setting('timescaledb.license') <> 'apache' then
      return 0;  -- a policy's
    end if;
    -- One at a time, since of `reading` the ingest waits meanwhile. A chunk of today is of a device that was away and
    -- has more to tell: without what came of a minute before, the rest of it could not be rolled up.
    select range_start, range_end into oldest from timescaledb_information.chunks
    where hypertable_name = kept_table and range_end <= expired and chunk_creation_time < now() - interval '1 day'
    order by range_end limit 1;
    if not found then
      return 0;
    end if;
    if kept_table = 'reading' then
      lock table rollup_pending in share row exclusive mode;
      if exists (select from rollup_pending where minute >= oldest.range_start and minute < oldest.range_end) then
        return 0;  -- rolled up first, dropped the next time
      end if;
    end if;
    return (
      select count(*) from drop_chunks(kept_table::regclass, older_than => oldest.range_end, newer_than => oldest.range_start));
  end if;
  spared := case
    -- What a device is now.
    when kept_table = 'node_status' then
      'not exists (select from node_status later where (later.group_id, later.node_id, later.device_id) =
       (old.group_id, old.node_id, old.device_id) and later.at > old.at)'
    -- What tells a stream that starts again that its last batches are stored.
    when kept_table in ('ingest_batch', 'analysis_batch') then
      format('batch_id > (select max(batch_id) - 100 from %I newest where newest.query_id = old.query_id)', kept_table)
    else 'false' end;
  execute format(
    'delete from %1$I where ctid = any (array(select ctid from %1$I old where %2$I < $1 and not %3$s limit $2))',
    kept_table, rule.time_column, spared) using expired, most_rows;
  get diagnostics removed = row_count;
  return removed;
end
$$;
comment on function retain_table is 'remove what a table keeps no longer, a piece at a time: how many rows, or chunks of a hypertable, went';

create function retain()
returns table (kept_table text, removed bigint) language plpgsql security definer
set search_path = pg_catalog, public, pg_temp set lock_timeout = '2s' as $$
begin
  -- `reading` at the end: all of this is one transaction, and what that locks the ingest waits for.
  for kept_table in select table_name from retention where keep is not null order by table_name = 'reading', table_name loop
    begin
      removed := retain_table(kept_table);
      if removed > 0 then
        return next;
      end if;
    exception when lock_not_available then
      raise notice '% is in use: left for the next time', kept_table;
    end;
  end loop;
end
$$;
comment on function retain is 'retain_table() for each, once; call it again while it returns rows';

revoke execute on function roll_up_level, roll_up, retain_table, retain from public;
grant execute on function roll_up, retain_table, retain to headwater_maintainer;
grant insert on rollup_pending to headwater_writer;
grant select on rollup_pending, retention, rollup_1m, rollup_1h, rollup_1d, reading_1m, reading_1h, reading_1d
  to headwater_reader;
