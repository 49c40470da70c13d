-- What could not be stored, with its reason; and the ledger that makes the stream exactly once.
--
-- A batch commits its rows and its ledger entry in one transaction, so a batch that is run again after a failure finds its
-- entry and is skipped. The key holds the query's id too: a new checkpoint starts again at batch 0.
set local role headwater_owner;

create table dead_letter (
  kafka_topic     text not null,
  kafka_partition int not null,
  kafka_offset    bigint not null,
  item            int not null,
  mqtt_topic      text,
  metric          text,
  reason          text not null,
  received_at     timestamptz,
  payload         bytea,
  set_aside_at    timestamptz not null default now(),
  primary key (kafka_topic, kafka_partition, kafka_offset, item)
);
comment on column dead_letter.item is 'the metric''s index in its payload; -1: the whole payload';
comment on column dead_letter.payload is 'the first 64 KiB, on the first row of each payload';
create index dead_letter_set_aside_at on dead_letter (set_aside_at);

create table ingest_batch (
  query_id         uuid not null,
  batch_id         bigint not null,
  committed_at     timestamptz not null default clock_timestamp(),
  offsets          jsonb not null,
  reading_rows     bigint not null default 0,
  text_rows        bigint not null default 0,
  duplicate_rows   bigint not null default 0,
  dead_letter_rows bigint not null default 0,
  latency_p50_ms   double precision,
  latency_p99_ms   double precision,
  latency_max_ms   double precision,
  primary key (query_id, batch_id)
) with (fillfactor = 50);
comment on column ingest_batch.offsets is '{topic: {partition: next offset}}';
comment on column ingest_batch.latency_p50_ms is 'committed_at - sampled_at of the rows that were not historical; null if there were none';
create index ingest_batch_committed_at on ingest_batch (committed_at);

grant select, insert on dead_letter to headwater_writer;
grant select, insert, update on ingest_batch to headwater_writer;
grant select on dead_letter, ingest_batch to headwater_reader;
