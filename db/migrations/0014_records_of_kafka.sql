-- How much the bridge brings, and how much of it waits: records of Kafka by micro-batch.
set local role headwater_owner;

alter table ingest_batch
  add column records bigint not null default 0,
  add column records_waiting bigint;
comment on column ingest_batch.records is 'records of Kafka, of which the bridge makes one of each MQTT message, and one of what it sets aside';
comment on column ingest_batch.records_waiting is 'records of the fullest partition that were not stored at the last look before the commit; null before the first';

alter table ingest_minute
  add column records bigint not null default 0,
  add column records_waiting bigint;
comment on column ingest_minute.records_waiting is 'the most of its batches';

create or replace function count_ingested() returns trigger language plpgsql security definer
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
    new.latency_p99_ms, new.latency_max_ms, pause_s, new.records - coalesce(before.records, 0), new.records_waiting)
  on conflict (minute) do update set
    stored_rows = m.stored_rows + excluded.stored_rows, duplicate_rows = m.duplicate_rows + excluded.duplicate_rows,
    dead_letter_rows = m.dead_letter_rows + excluded.dead_letter_rows, timed_rows = m.timed_rows + excluded.timed_rows,
    p50_ms_by_rows = m.p50_ms_by_rows + excluded.p50_ms_by_rows,
    latency_p99_ms = greatest(m.latency_p99_ms, excluded.latency_p99_ms),
    latency_max_ms = greatest(m.latency_max_ms, excluded.latency_max_ms), pause_s = greatest(m.pause_s, excluded.pause_s),
    records = m.records + excluded.records, records_waiting = greatest(m.records_waiting, excluded.records_waiting);
  return null;
end
$$;

-- As it was, with both.
drop function ingest_bucketed(timestamptz, timestamptz, interval);
create function ingest_bucketed(from_at timestamptz, to_at timestamptz, width interval)
returns table (bucket_at timestamptz, stored_rows bigint, duplicate_rows bigint, dead_letter_rows bigint,
               latency_p50_ms double precision, latency_p99_ms double precision, latency_max_ms double precision,
               pause_s double precision, records bigint, records_waiting bigint)
language sql stable parallel safe as $$
  select time_bucket(width, b.committed_at), sum(b.reading_rows + b.text_rows)::bigint, sum(b.duplicate_rows)::bigint,
         sum(b.dead_letter_rows)::bigint,
         sum(b.latency_p50_ms * b.reading_rows)
           / nullif(sum(b.reading_rows) filter (where b.latency_p50_ms is not null), 0)::float8,
         max(b.latency_p99_ms), max(b.latency_max_ms), max(b.pause_s), sum(b.records)::bigint, max(b.records_waiting)
  from (
    select *, extract(epoch from committed_at - lag(committed_at) over (order by committed_at))::float8 as pause_s
    from ingest_batch where extract(epoch from width) % 60 <> 0 and committed_at >= from_at and committed_at < to_at) b
  group by 1
  union all
  select time_bucket(width, m.minute), sum(m.stored_rows)::bigint, sum(m.duplicate_rows)::bigint,
         sum(m.dead_letter_rows)::bigint, sum(m.p50_ms_by_rows) / nullif(sum(m.timed_rows), 0)::float8,
         max(m.latency_p99_ms), max(m.latency_max_ms), max(m.pause_s), sum(m.records)::bigint, max(m.records_waiting)
  from ingest_minute m
  where extract(epoch from width) % 60 = 0 and m.minute >= date_trunc('minute', from_at) and m.minute < to_at
  group by 1
$$;
