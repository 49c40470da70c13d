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
  select s.group_id, s.node_id, max(last.sampled_at) as sampled_at,
         max(last.value) filter (where s.metric = 'Health/Uptime') as uptime_s,
         max(last.value) filter (where s.metric = 'Health/Memory') as memory_mib,
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
    and s.metric in ('Health/Uptime', 'Health/Memory', 'Health/Spool Batches', 'Health/Spool Bytes', 'Health/Spool Buffered',
                     'Health/Spool Evicted', 'Health/Spool Dropped', 'Health/Spool Set Aside')
  group by s.group_id, s.node_id;
comment on view node_health is 'what each node said of itself last, within a day';

create view node_model as
  select distinct on (f.group_id, f.node_id, f.device_id, f.subject, f.model, f.place)
         f.group_id, f.node_id, f.device_id, f.subject, f.model, f.place, f.version, p.done_to
  from forecaster f
  left join model_progress p using (place, model, group_id, node_id, device_id, subject)
  order by f.group_id, f.node_id, f.device_id, f.subject, f.model, f.place, f.forecaster_id desc;
comment on view node_model is 'which version of which model looks at a device, the newest one that has told anything';

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

grant select on command_answer, node_position, node_health, node_model, open_gap, analysis_lag, table_size
  to headwater_reader;

-- A query over many chunks looks costly, and compiling it takes longer than it runs: table_size 534 ms, 91 without.
-- And whoever looks must not hold up whoever writes: nobody waits half a minute for a panel.
reset role;
do $$
begin
  execute format('alter role headwater_reader in database %I set jit = off', current_database());
  execute format('alter role headwater_reader in database %I set statement_timeout = %L', current_database(), '30s');
end
$$;
