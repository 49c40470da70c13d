-- A fleet that is well, from what bench/dashboards.sql makes for dashboards to show: there a node is away, batches are
-- missing, incidents last, payloads were set aside and a spool is full.
update node set online = true, last_seen_at = now() - interval '5 s';
update gap set state = 'filled', closed_at = now() where kind = 'undelivered';
delete from dead_letter;
update anomaly set ended_at = greatest(started_at, now() - interval '10 minutes') where ended_at is null;
delete from reading using series s where s.series_id = reading.series_id and s.metric like 'Health/Spool %'
  and sampled_at > now() - interval '2 hours';
insert into reading (series_id, sampled_at, value, quality)
select series_id, now() - step * interval '10 s', case metric when 'Health/Spool Bytes' then 2000 when 'Health/Spool Limit' then 268435456 else 0 end, 192
from series, generate_series(0, 40) step where metric like 'Health/Spool %';
insert into ingest_batch (query_id, batch_id, committed_at, offsets, reading_rows, latency_p50_ms, latency_p99_ms,
                          latency_max_ms)
select query_id, 1000000, now() - interval '1 s', offsets, 1200, 400, 900, 1100
from ingest_batch order by batch_id desc limit 1;
delete from rollup_pending;
