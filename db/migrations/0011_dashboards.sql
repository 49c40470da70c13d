-- What dashboards ask again and again, in one place; and where nodes stand, which nobody else knows.
set local role headwater_owner;

create table node_position (
  group_id  text not null,
  node_id   text not null,
  site      text not null default '',
  latitude  double precision not null check (latitude between -90 and 90),
  longitude double precision not null check (longitude between -180 and 180),
  primary key (group_id, node_id)
);
comment on table node_position is 'where a node was installed, by the word of who did it: nothing on the wire says so';

-- Bounded by a day, so that a node that is gone is not looked for in every chunk there is.
create view node_health as
  select told.*, told.spool_bytes / nullif(told.spool_limit_bytes, 0) as spool_share, version.value as version
  from (
    select s.group_id, s.node_id, max(last.sampled_at) as sampled_at,
           max(last.value) filter (where s.metric = 'Health/Uptime') as uptime_s,
           max(last.value) filter (where s.metric = 'Health/Memory') as memory_mib,
           max(last.value) filter (where s.metric = 'Health/Temperature') as temperature_celsius,
           max(last.value) filter (where s.metric = 'Health/Clock Synchronised') as clock_synchronised,
           max(last.value) filter (where s.metric = 'Health/Clock Offset') as clock_offset_ms,
           max(last.value) filter (where s.metric = 'Health/Disk Free') as disk_free_bytes,
           max(last.value) filter (where s.metric = 'Health/Disk Size') as disk_bytes,
           max(last.value) filter (where s.metric = 'Health/Spool Limit') as spool_limit_bytes,
           max(last.value) filter (where s.metric = 'Health/Spool Batches') as spool_batches,
           max(last.value) filter (where s.metric = 'Health/Spool Bytes') as spool_bytes,
           max(last.value) filter (where s.metric = 'Health/Spool Buffered') as spool_buffered,
           max(last.value) filter (where s.metric = 'Health/Spool Evicted') as spool_evicted,
           max(last.value) filter (where s.metric = 'Health/Spool Dropped') as spool_dropped,
           max(last.value) filter (where s.metric = 'Health/Spool Set Aside') as spool_set_aside
    from series s
    cross join lateral (
      select r.sampled_at, r.value from reading r
      where r.series_id = s.series_id and r.quality = 192 and r.sampled_at > now() - interval '1 day'
      order by r.sampled_at desc limit 1) last
    where s.device_id = '' and s.kind = 'numeric'
      and s.metric in ('Health/Uptime', 'Health/Memory', 'Health/Temperature', 'Health/Clock Synchronised',
                       'Health/Clock Offset', 'Health/Disk Free', 'Health/Disk Size', 'Health/Spool Limit',
                       'Health/Spool Batches', 'Health/Spool Bytes', 'Health/Spool Buffered', 'Health/Spool Evicted',
                       'Health/Spool Dropped', 'Health/Spool Set Aside')
    group by s.group_id, s.node_id) told
  left join lateral (
    select r.value from series s join reading_text r using (series_id)
    where (s.group_id, s.node_id, s.device_id, s.metric, s.kind)
            = (told.group_id, told.node_id, '', 'Health/Version', 'text')
      and r.sampled_at > now() - interval '1 day' order by r.sampled_at desc limit 1) version on true;
comment on view node_health is 'what each node said of itself last, within a day; what it did not is null';

create view source_health as
  select s.group_id, s.node_id, split_part(s.metric, '/', 2) as device_id, max(last.sampled_at) as sampled_at,
         max(last.value) filter (where s.metric like '%/Line Occupancy') as line_occupancy,
         max(last.value) filter (where s.metric like '%/Quota Left Day') as quota_left_day,
         max(last.value) filter (where s.metric like '%/Quota Left Month') as quota_left_month
  from series s
  cross join lateral (
    select r.sampled_at, r.value from reading r
    where r.series_id = s.series_id and r.quality = 192 and r.sampled_at > now() - interval '1 day'
    order by r.sampled_at desc limit 1) last
  where s.device_id = '' and s.kind = 'numeric'
    and s.metric ~ '^Health/[^/]+/(Line Occupancy|Quota Left Day|Quota Left Month)$'
  group by s.group_id, s.node_id, split_part(s.metric, '/', 2);
comment on view source_health is
  'how much of its interval each Modbus source''s last poll took, and what is left of an API''s quota, within a day';

-- A model on a device is a device of its own there, or part of a camera, and says itself how it is; what runs here is known
-- by what it has told.
create view node_model as
  select s.group_id, s.node_id, s.device_id, '' as subject,
         case s.metric when 'model/version' then s.device_id else 'scene' end as model, 'edge' as place,
         version.value as version, state.value as state, version.sampled_at as told_at
  from series s
  cross join lateral (
    select r.value, r.sampled_at from reading_text r
    where r.series_id = s.series_id and r.sampled_at > now() - interval '7 days' order by r.sampled_at desc limit 1) version
  left join lateral (
    select r.value from series t join reading_text r using (series_id)
    where (t.group_id, t.node_id, t.device_id, t.metric, t.kind)
            = (s.group_id, s.node_id, s.device_id, replace(s.metric, '/version', '/state'), 'text')
      and r.sampled_at > now() - interval '7 days' order by r.sampled_at desc limit 1) state on true
  where s.kind = 'text' and s.metric in ('model/version', 'scene_model/version')
  union all
  select p.group_id, p.node_id, p.device_id, p.subject, p.model, p.place,
         coalesce(forecasting.version, finding.version), null, p.done_to
  from model_progress p
  left join lateral (
    select f.version from forecaster f
    where (f.group_id, f.node_id, f.device_id, f.subject, f.model, f.place)
            = (p.group_id, p.node_id, p.device_id, p.subject, p.model, p.place)
    order by f.forecaster_id desc limit 1) forecasting on true
  left join lateral (
    select a.version from anomaly a
    where (a.group_id, a.node_id, a.device_id, a.detector, a.place)
            = (p.group_id, p.node_id, p.device_id, p.model, p.place) and a.version is not null
    order by a.started_at desc limit 1) finding on true
  where p.place = 'cloud';
comment on view node_model is
  'which version of which model looks at a device, there or here; null where a model here has found nothing unusual yet';

create view open_gap as
  select group_id, node_id, device_id, from_at, to_at, kind, reason, batches, state, declared_at
  from gap where kind = 'undelivered' and closed_at is null and state in ('open', 'given_up');
comment on view open_gap is 'batches that were made and have not come';

-- What the analysis has not seen of what is stored, in records of Kafka: of the newest batch of each query.
create view analysis_lag as
  with ingested as (select offsets from ingest_batch order by committed_at desc limit 1),
       analysed as (select offsets from analysis_batch order by committed_at desc limit 1)
  select i.topic, i.partition, i.next as ingested, a.next as analysed, greatest(i.next - coalesce(a.next, 0), 0) as behind
  from (select t.key as topic, p.key as partition, p.value::bigint as next
        from ingested, jsonb_each(offsets) t, jsonb_each_text(t.value) p) i
  left join (select t.key as topic, p.key as partition, p.value::bigint as next
             from analysed, jsonb_each(offsets) t, jsonb_each_text(t.value) p) a using (topic, partition);
comment on view analysis_lag is 'records that are stored and not yet analysed, by partition';

create view table_size as
  select r.table_name, case when h.hypertable_name is null then pg_total_relation_size(r.table_name::regclass)
                            else hypertable_size(r.table_name::regclass) end as bytes, r.keep
  from retention r
  left join timescaledb_information.hypertables h on h.hypertable_name = r.table_name
  where to_regclass(r.table_name) is not null;
comment on view table_size is 'what each table takes on disk with its indexes, and how long it is kept';

-- What a node tells need not be what it should be: one that tells no JSON must not take the others' answers away.
create function json_object_or_null(told text) returns jsonb language plpgsql immutable parallel safe as $$
begin
  return case when jsonb_typeof(told::jsonb) = 'object' then told::jsonb end;
exception when others then
  return null;
end
$$;

create view command_answer as
  select s.group_id, s.node_id, s.device_id, r.sampled_at as answered_at, json_object_or_null(r.value) as answer
  from series s join reading_text r using (series_id)
  where s.metric = 'Headwater/Command/Answer' and s.kind = 'text';
comment on view command_answer is 'what nodes answered to commands';

-- The ledgers have a row for each second. Of a month that is two and a half million: dashboards read it by the minute.
-- A batch's row is inserted empty and updated at its end, so a trigger adds what the update has added: 0.1 ms a batch.
create table ingest_minute (
  minute           timestamptz primary key,
  stored_rows      bigint not null,
  duplicate_rows   bigint not null,
  dead_letter_rows bigint not null,
  timed_rows       bigint not null,
  p50_ms_by_rows   double precision not null,
  latency_p99_ms   double precision,
  latency_max_ms   double precision,
  pause_s          double precision
) with (fillfactor = 50);
comment on table ingest_minute is 'what ingest_batch says, by the minute of the commit';
comment on column ingest_minute.p50_ms_by_rows is 'the batches'' medians, each times its rows: by timed_rows it is their mean';
comment on column ingest_minute.pause_s is 'the longest from one commit to the next';

create table analysis_minute (
  minute    timestamptz primary key,
  readings  bigint not null,
  late_rows bigint not null
) with (fillfactor = 50);
comment on table analysis_minute is 'what analysis_batch says, by the minute of the commit';

insert into retention (table_name, time_column, keep) values
  ('ingest_minute', 'minute', '365 days'), ('analysis_minute', 'minute', '365 days');

create function count_ingested() returns trigger language plpgsql security definer
set search_path = pg_catalog, public, pg_temp as $$
declare
  before ingest_batch;
  pause_s double precision;
begin
  if tg_op = 'UPDATE' then
    before := old;
  end if;
  select extract(epoch from new.committed_at - b.committed_at) into pause_s from ingest_batch b
  where b.committed_at < new.committed_at and (b.query_id, b.batch_id) <> (new.query_id, new.batch_id)
  order by b.committed_at desc limit 1;
  insert into ingest_minute as m values (
    date_trunc('minute', new.committed_at), new.reading_rows + new.text_rows - coalesce(before.reading_rows + before.text_rows, 0),
    new.duplicate_rows - coalesce(before.duplicate_rows, 0), new.dead_letter_rows - coalesce(before.dead_letter_rows, 0),
    case when new.latency_p50_ms is null then 0 else new.reading_rows - coalesce(before.reading_rows, 0) end,
    coalesce(new.latency_p50_ms * (new.reading_rows - coalesce(before.reading_rows, 0)), 0),
    new.latency_p99_ms, new.latency_max_ms, pause_s)
  on conflict (minute) do update set
    stored_rows = m.stored_rows + excluded.stored_rows, duplicate_rows = m.duplicate_rows + excluded.duplicate_rows,
    dead_letter_rows = m.dead_letter_rows + excluded.dead_letter_rows, timed_rows = m.timed_rows + excluded.timed_rows,
    p50_ms_by_rows = m.p50_ms_by_rows + excluded.p50_ms_by_rows,
    latency_p99_ms = greatest(m.latency_p99_ms, excluded.latency_p99_ms),
    latency_max_ms = greatest(m.latency_max_ms, excluded.latency_max_ms), pause_s = greatest(m.pause_s, excluded.pause_s);
  return null;
end
$$;

create function count_analysed() returns trigger language plpgsql security definer
set search_path = pg_catalog, public, pg_temp as $$
declare
  before analysis_batch;
begin
  if tg_op = 'UPDATE' then
    before := old;
  end if;
  insert into analysis_minute as m values (
    date_trunc('minute', new.committed_at), new.readings - coalesce(before.readings, 0), new.late - coalesce(before.late, 0))
  on conflict (minute) do update set readings = m.readings + excluded.readings, late_rows = m.late_rows + excluded.late_rows;
  return null;
end
$$;

-- What is there already.
insert into ingest_minute
select date_trunc('minute', committed_at), sum(reading_rows + text_rows), sum(duplicate_rows), sum(dead_letter_rows),
       coalesce(sum(reading_rows) filter (where latency_p50_ms is not null), 0), coalesce(sum(latency_p50_ms * reading_rows), 0),
       max(latency_p99_ms), max(latency_max_ms), max(pause_s)
from (
  select *, extract(epoch from committed_at - lag(committed_at) over (order by committed_at))::float8 as pause_s
  from ingest_batch) b
group by 1;
insert into analysis_minute
select date_trunc('minute', committed_at), sum(readings), sum(late) from analysis_batch group by 1;

create trigger count_inserted after insert on ingest_batch for each row
  when (new.reading_rows + new.text_rows + new.duplicate_rows + new.dead_letter_rows > 0) execute function count_ingested();
create trigger count_updated after update on ingest_batch for each row execute function count_ingested();
create trigger count_inserted after insert on analysis_batch for each row
  when (new.readings + new.late > 0) execute function count_analysed();
create trigger count_updated after update on analysis_batch for each row execute function count_analysed();

-- Both are inlined, as reading_bucketed is: a width of whole minutes is read from minutes.
create function ingest_bucketed(from_at timestamptz, to_at timestamptz, width interval)
returns table (bucket_at timestamptz, stored_rows bigint, duplicate_rows bigint, dead_letter_rows bigint,
               latency_p50_ms double precision, latency_p99_ms double precision, latency_max_ms double precision,
               pause_s double precision)
language sql stable parallel safe as $$
  select time_bucket(width, b.committed_at), sum(b.reading_rows + b.text_rows)::bigint, sum(b.duplicate_rows)::bigint,
         sum(b.dead_letter_rows)::bigint,
         sum(b.latency_p50_ms * b.reading_rows)
           / nullif(sum(b.reading_rows) filter (where b.latency_p50_ms is not null), 0)::float8,
         max(b.latency_p99_ms), max(b.latency_max_ms), max(b.pause_s)
  from (
    select *, extract(epoch from committed_at - lag(committed_at) over (order by committed_at))::float8 as pause_s
    from ingest_batch where extract(epoch from width) % 60 <> 0 and committed_at >= from_at and committed_at < to_at) b
  group by 1
  union all
  select time_bucket(width, m.minute), sum(m.stored_rows)::bigint, sum(m.duplicate_rows)::bigint,
         sum(m.dead_letter_rows)::bigint, sum(m.p50_ms_by_rows) / nullif(sum(m.timed_rows), 0)::float8,
         max(m.latency_p99_ms), max(m.latency_max_ms), max(m.pause_s)
  from ingest_minute m
  where extract(epoch from width) % 60 = 0 and m.minute >= date_trunc('minute', from_at) and m.minute < to_at
  group by 1
$$;
create function analysis_bucketed(from_at timestamptz, to_at timestamptz, width interval)
returns table (bucket_at timestamptz, readings bigint, late_rows bigint) language sql stable parallel safe as $$
  select time_bucket(width, b.committed_at), sum(b.readings)::bigint, sum(b.late)::bigint
  from analysis_batch b
  where extract(epoch from width) % 60 <> 0 and b.committed_at >= from_at and b.committed_at < to_at group by 1
  union all
  select time_bucket(width, m.minute), sum(m.readings)::bigint, sum(m.late_rows)::bigint
  from analysis_minute m
  where extract(epoch from width) % 60 = 0 and m.minute >= date_trunc('minute', from_at) and m.minute < to_at group by 1
$$;

grant select on ingest_minute, analysis_minute to headwater_reader;
grant select on command_answer, node_position, node_health, source_health, node_model, open_gap, analysis_lag, table_size
  to headwater_reader;

-- A query over many chunks looks costly, and compiling it takes longer than it runs: table_size 534 ms, 91 without.
reset role;
do $$
begin
  execute format('alter role headwater_reader in database %I set jit = off', current_database());
exception when insufficient_privilege then
  raise notice 'headwater_reader is not ours to alter: whoever made it should set jit = off for it';
end
$$;
