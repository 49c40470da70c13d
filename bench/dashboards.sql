-- What a fleet leaves in the tables beside its readings, from %(since)s to %(until)s: see dashboards_data.py.
--
-- Of each five nodes one was away for a while, of each 25 one is.

insert into node (group_id, node_id, first_seen_at, last_seen_at, last_birth_at, online, bd_seq)
select 'demo', 'edge-' || to_char(n, 'FM00'), %(since)s, case when n %% 25 = 4 then %(until)s - interval '3 hours' else now() end,
       %(since)s, n %% 25 <> 4, 3
from generate_series(1, %(nodes)s) n;

insert into node_status (group_id, node_id, device_id, at, status, bd_seq)
select 'demo', 'edge-' || to_char(n, 'FM00'), device, at, status, 3
from generate_series(1, %(nodes)s) n
cross join lateral (select unnest(case (n - 1) %% 3 when 0 then array['', 'line-a', 'weather']
  when 1 then array['', 'line-b', 'exchange'] else array['', 'gate'] end) as device) d
cross join lateral (
  select %(since)s::timestamptz + n * interval '1 second' as at, 'online' as status
  union all select %(since)s::timestamptz + (%(until)s::timestamptz - %(since)s::timestamptz) / 3, 'offline' where n %% 5 = 2
  union all select %(since)s::timestamptz + (%(until)s::timestamptz - %(since)s::timestamptz) / 2, 'online' where n %% 5 = 2
) s;

insert into node_position (group_id, node_id, site, latitude, longitude)
select 'demo', 'edge-' || to_char(n, 'FM00'), 'site ' || n, 52.5 + 0.02 * sin(n), 13.4 + 0.03 * cos(n) from generate_series(1, %(nodes)s) n;

insert into node_epoch (group_id, node_id, epoch, newest, newest_ms, heard_at, oldest_first, oldest, given_up, undelivered)
select 'demo', 'edge-' || to_char(n, 'FM00'), 1795000000000 + lane, 80000 + n, extract(epoch from now()) * 1000, now(), 1, 79000,
       (n %% 10 = 3)::int * 2, (n %% 10 = 2)::int
from generate_series(1, %(nodes)s) n, generate_series(0, 3) lane;

insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at, kind, epoch, first_batch, last_batch,
                 batches, state, closed_at)
select 'demo', 'edge-' || to_char(n, 'FM00'), '', %(until)s::timestamptz - interval '10 minutes', %(until)s::timestamptz - interval '9 minutes',
       'batches did not come', %(until)s::timestamptz - interval '8 minutes', 'undelivered', 1795000000000, 5, 5, 1,
       case n %% 10 when 2 then 'open' else 'given_up' end, null::timestamptz
from generate_series(1, %(nodes)s) n where n %% 10 in (2, 3)
union all
select 'demo', 'edge-' || to_char(n, 'FM00'), 'line-a', %(until)s::timestamptz - interval '20 minutes',
       %(until)s::timestamptz - interval '15 minutes', 'spool full', %(until)s::timestamptz - interval '14 minutes',
       'declared', null, null, null, null, null, null::timestamptz
from generate_series(1, %(nodes)s) n where n %% 3 = 1;

insert into node_event (group_id, node_id, device_id, metric, at, kind, detail)
select 'demo', 'edge-' || to_char(n, 'FM00'), 'line-a', 'tank1/level', %(until)s::timestamptz - n * interval '1 minute', 'series_changed',
       '{"version": 2, "before": {"unit": "m"}, "after": {"unit": "cm"}}'
from generate_series(1, %(nodes)s) n;

with made as (
  insert into series (group_id, node_id, device_id, metric, kind, datatype)
  select 'demo', 'edge-' || to_char(n, 'FM00'), device, metric, 'text', 12
  from generate_series(1, %(nodes)s) n
  cross join lateral (select * from (values (0, 'line-a', 'Headwater/Command/Answer'),
    (0, 'tank-level', 'model/version'), (0, 'tank-level', 'model/state'),
    (1, 'line-b', 'Headwater/Command/Answer'),
    (2, 'gate', 'tamper'), (2, 'gate', 'scene_model/version'), (2, 'gate', 'scene_model/state'),
    (null, '', 'Health/Version')) v (kind, device, metric)
    where coalesce(kind, (n - 1) %% 3) = (n - 1) %% 3) d
  returning series_id, metric)
insert into reading_text (series_id, sampled_at, value, quality)
select m.series_id, t, case m.metric when 'tamper'
    then (array['none', 'none', 'covered', 'none', 'moved', 'none'])[1 + extract(epoch from t)::bigint / 600 %% 6]
    when 'Health/Version' then '0.1.0' when 'model/version' then 'v1' when 'scene_model/version' then 'v2'
    when 'model/state' then 'ok' when 'scene_model/state' then 'resting'
    else '{"command": "tank1/level_setpoint", "done": true, "value": 2.5, "command_id": "17"}' end, 192
from made m, generate_series(%(since)s::timestamptz, %(until)s::timestamptz,
  case m.metric when 'tamper' then interval '1 minute' else interval '1 hour' end) t;

-- Two roll-outs: one that is done, and one in whose second stage a node has rolled back and others are at work.
insert into rollout (group_id, kind, name, version, counter, sha256, size_bytes, unpacked_bytes, stages, stage,
                     max_failed, soak, within, started_by, started_at, expires_at, state, changed_at, driven_at, cleared_at)
select 'demo', 'model', 'tank-level', v.version, v.counter, repeat('0', 64), 40000, 90000, array['canary', '100%%'], 2, 1,
       '10 minutes', '30 minutes', 'somebody@desk', %(since)s, %(until)s::timestamptz + interval '7 days', v.state,
       %(since)s::timestamptz + interval '30 minutes', now(), case v.state when 'done' then %(until)s::timestamptz end
from (values (1, 'v1', 'done'), (2, 'v2', 'running')) v (counter, version, state);

insert into rollout_node (rollout_id, node_id, stage, state, asked_at, reached_at, settled_at, reason)
select o.rollout_id, 'edge-' || to_char(n, 'FM00'), 1 + (n > 1)::int, s.state, o.started_at, o.started_at,
       case s.state when 'asked' then null else o.started_at + interval '20 minutes' end,
       case s.state when 'failed' then 'its health did not hold: source line-b' end
from rollout o cross join generate_series(1, %(nodes)s) n
cross join lateral (select case when o.state = 'done' or n %% 3 = 1 then 'confirmed' when n %% 3 = 2 then 'failed' else 'asked' end as state) s;

with made as (
  insert into series (group_id, node_id, device_id, metric, kind, datatype)
  select 'demo', node_id, '', 'Update/model/tank-level', 'text', 12 from rollout_node n join rollout o using (rollout_id)
  where o.state = 'running'
  returning series_id, node_id)
insert into reading_text (series_id, sampled_at, value, quality)
select m.series_id, %(until)s, jsonb_build_object('counter', 2, 'wanted', 'v2', 'running', case n.state when 'confirmed' then 'v2' else 'v1' end,
         'state', case n.state when 'asked' then 'fetching' when 'failed' then 'rolled_back' else n.state end, 'reason', n.reason)::text, 192
from made m join rollout_node n using (node_id) join rollout o using (rollout_id) where o.state = 'running';

insert into dead_letter (kafka_topic, kafka_partition, kafka_offset, item, mqtt_topic, metric, reason, received_at,
                         payload, set_aside_at)
select 'payloads', n %% 4, n, -1, 'spBv1.0/demo/DDATA/edge-' || to_char(1 + n %% %(nodes)s, 'FM00') || '/line-a', null,
       (array['no Sparkplug payload', 'sampled at a time that is too far ahead'])[1 + n %% 2], t, '\x00', t
from (select row_number() over (order by t) as n, t from generate_series(%(since)s::timestamptz, %(until)s::timestamptz, interval '7 minutes') t) letters;

insert into ingest_batch (query_id, batch_id, committed_at, offsets, reading_rows, text_rows, duplicate_rows,
                          dead_letter_rows, latency_p50_ms, latency_p99_ms, latency_max_ms, records, records_waiting)
select '00000000-0000-0000-0000-000000000001', n, t,
       jsonb_build_object('payloads', jsonb_build_object('0', n * 40, '1', n * 41)), 1200 + n %% 100, 3, n %% 3,
       (n %% 40 = 0)::int, 350 + n %% 60, 800 + n %% 300, 1100 + n %% 900,
       81, n %% 7
from (select row_number() over (order by t) as n, t from generate_series(%(since)s::timestamptz, %(until)s::timestamptz, interval '10 seconds') t) batches;

insert into analysis_batch (query_id, batch_id, committed_at, offsets, readings, late, bars, trends, anomalies)
select '00000000-0000-0000-0000-000000000002', n, t,
       jsonb_build_object('payloads', jsonb_build_object('0', n * 40 - 11, '1', n * 41 - 7)), 1190, n %% 2, 12, 60, (n %% 99 = 0)::int
from (select row_number() over (order by t) as n, t from generate_series(%(since)s::timestamptz, %(until)s::timestamptz, interval '10 seconds') t) batches;

insert into bar (series_id, width_s, starts_at, open, high, low, close, volume, quotes, is_final)
select s.series_id, w, to_timestamp(floor(extract(epoch from t) / w) * w), 100 + 3 * sin(x), 101 + 3 * sin(x), 99 + 3 * sin(x),
       100 + 3 * sin(x + 0.1), 5000 + 100 * cos(x), w, true
from series s, unnest(array[60, 300, 3600, 86400]) w,
  lateral generate_series(%(since)s::timestamptz, %(until)s::timestamptz, w * interval '1 second') t,
  lateral (select extract(epoch from t)::float8 / 5000 as x) phase
where s.metric like '%%/price'
on conflict do nothing;

insert into trend (series_id, at, level, slope_per_s, slope_se, volatility, regime)
select s.series_id, t, 100 + 3 * sin(x), 0.0006 * cos(x), 0.0001, 0.05,
       (array['flat', 'up', 'up', 'changed', 'down', 'down'])[1 + floor(x)::bigint %% 6]
from series s, generate_series(%(since)s::timestamptz, %(until)s::timestamptz, interval '10 seconds') t, lateral (select extract(epoch from t)::float8 / 5000 as x) phase
where s.metric = 'AAPL/price' and s.node_id = 'edge-02';

insert into anomaly (group_id, node_id, device_id, metric, detector, place, started_at, ended_at, peak_at, peak_score,
                     threshold, model, version, evidence)
select 'demo', s.node_id, s.device_id, s.metric, case when n %% 2 = 0 then 'robust' else 'pump-anomaly' end,
       case when n %% 3 = 0 then 'edge' else 'cloud' end, t, nullif(t + interval '2 minutes', last_t + interval '2 minutes'),
       t + interval '1 minute', 7 + n %% 5, 5, case when n %% 2 = 1 then 'pump-anomaly' end, case when n %% 2 = 1 then '1.0' end,
       jsonb_build_array(
         jsonb_build_object('metric', s.metric, 'at', t, 'value', 4.2, 'expected', 3.1, 'score', 6.5),
         jsonb_build_object('metric', s.metric, 'at', t + interval '10 s', 'value', 4.4, 'expected', 3.1, 'score', 7.5))
from series s,
  (select row_number() over (order by t) as n, t, max(t) over () as last_t from generate_series(%(since)s::timestamptz, %(until)s::timestamptz, interval '25 minutes') t) t
where s.metric in ('tank1/level', 'quality/ph', 'AAPL/price', 'temperature_2m', 'scene_score') and s.node_id in ('edge-01', 'edge-02', 'edge-03');

with made as (
  insert into forecaster (group_id, node_id, device_id, subject, model, version, place, target, unit, series_id)
  select s.group_id, s.node_id, s.device_id, m.subject, m.model, 'v1', p, m.target, s.unit, s.series_id
  from series s
  join (values ('tank2/level', 'tank-level', '', 'level'), ('AAPL/price', 'stock-minute', 'AAPL', 'price'),
               ('IBM/price', 'stock-minute', 'IBM', 'price'), ('temperature_2m', 'weather-hour', '', 'temperature'))
    m (metric, model, subject, target) on m.metric = s.metric
  cross join unnest(array['cloud', 'edge']) p
  where s.node_id in ('edge-01', 'edge-02')
  returning *),
spaced as (select f.*, h from made f, lateral unnest(case f.model when 'tank-level' then array[15, 60]
  when 'stock-minute' then array[60, 300, 1200] else array[3600, 21600] end) h),
told as (
  insert into forecast (forecaster_id, made_at, horizon_s, target_at, p10, p50, p90, levels, quantiles, computed_at)
  select forecaster_id, t, h, t + h * interval '1 second', level - 0.5, level, level + 0.5, array[0.1, 0.5, 0.9]::real[],
         array[level - 0.5, level, level + 0.5], t
  from spaced, generate_series(%(since)s::timestamptz, %(until)s::timestamptz, case model when 'weather-hour' then interval '10 minutes' else interval '1 minute' end) t,
    lateral (select case model when 'tank-level' then 3 when 'weather-hour' then 10 else 100 end
                    + 0.3 * sin(extract(epoch from t)::float8 / 5000) as level) value
  returning forecaster_id, made_at, horizon_s, target_at, p50)
insert into forecast_score (forecaster_id, made_at, horizon_s, target_at, actual, pinball, is_covered, error, naive_error,
                            seasonal_error)
select forecaster_id, made_at, horizon_s, target_at, p50 + off, abs(off) / 3, abs(off) < 0.5, off, off * 1.4, off * 1.6
from told, lateral (select 0.6 * sin(extract(epoch from target_at)::float8 / 300) as off) o
where target_at <= %(until)s;

insert into model_progress (place, model, group_id, node_id, device_id, subject, done_to)
select distinct place, model, group_id, node_id, device_id, subject, %(until)s::timestamptz from forecaster;

insert into late_reading (series_id, bucket_at, readings, query_id)
select series_id, time_bucket('1 hour', %(until)s::timestamptz), 5, '00000000-0000-0000-0000-000000000002' from series
where metric = 'tank1/level';

insert into camera_event (group_id, node_id, device_id, event_id, frame_no, frames, kind, started_at, sampled_at, jpeg)
select 'demo', node_id, 'gate', to_char(t, 'YYYYMMDDHH24MISS'), frame, 3, (array['motion', 'covered', 'fence/motion'])[1 + n %% 3], t,
       t + frame * interval '1 second', decode(repeat('ffd8ffe0', 3000), 'hex')
from (select distinct node_id from series where device_id = 'gate') cameras, generate_series(1, 3) frame,
  (select row_number() over (order by t) as n, t from generate_series(%(since)s::timestamptz, %(until)s::timestamptz,
     (%(until)s::timestamptz - %(since)s::timestamptz) / 120) t) t;
