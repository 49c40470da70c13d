-- What was lost on the way, told by the batch numbers of nodes; versions of series; dead letters that are tried again.
--
-- `node_epoch` holds for each sequence of a node's batches the highest that came and what is missing below it, which is
-- nothing almost always: the healthy case is one narrow row, updated in place once per micro-batch. What is missing for
-- longer than a moment becomes rows of `gap`, beside what nodes declare themselves.
-- A metric that changes its type or unit goes on as another version of its series, so that no chart joins metres to feet.
set local role headwater_owner;

create table node_epoch (
  group_id      text not null,
  node_id       text not null,
  epoch         bigint not null,
  newest        bigint not null,
  newest_ms     bigint not null,
  heard_at      timestamptz not null,
  oldest_first  bigint,
  oldest        bigint,
  earlier       bigint not null default 0,
  given_up      bigint not null default 0,
  undelivered   bigint not null default 0,
  holes         jsonb not null default '[]',
  filled        jsonb not null default '[]',
  pending_since bigint,
  primary key (group_id, node_id, epoch)
) with (fillfactor = 50);
comment on table node_epoch is 'a sequence of a node''s batches (an epoch of its spool, one for each lane), and what of it came';
comment on column node_epoch.newest is 'the highest batch that came, at newest_ms (UTC ms, the bridge''s clock): so many were made at least';
comment on column node_epoch.oldest_first is 'the lowest "oldest batch still kept" that the node ever told; oldest: the highest';
comment on column node_epoch.earlier is 'batches missing below oldest_first: gone before the first message of this epoch that we have';
comment on column node_epoch.given_up is 'batches missing from oldest_first to below oldest: the node kept them once, no longer does, and they never came';
comment on column node_epoch.undelivered is 'batches missing from oldest on: the node still keeps them, or its word to the contrary has not come';
comment on column node_epoch.holes is 'the missing batches: [first, last, how many, from ms, to ms, noticed ms, told as a gap]';
comment on column node_epoch.filled is 'what was told as a gap and came after all: [first, last, how many, from ms, to ms, opened ms, closed ms]';
comment on column node_epoch.pending_since is 'when (UTC ms) the first hole was noticed that is not told yet';
create index node_epoch_pending on node_epoch (pending_since) where pending_since is not null;

alter table gap
  add column kind        text not null default 'declared' check (kind in ('declared', 'undelivered')),
  add column epoch       bigint,
  add column first_batch bigint,
  add column last_batch  bigint,
  add column batches     bigint,
  add column state       text check (state in ('open', 'given_up', 'earlier', 'filled')),
  add column closed_at   timestamptz,
  drop constraint gap_group_id_node_id_device_id_from_at_to_at_key,
  add constraint gap_of_batches check (
    (kind = 'undelivered') = (epoch is not null and first_batch is not null and last_batch is not null
                              and batches is not null and state is not null)
  );
create unique index gap_declared_key on gap (group_id, node_id, device_id, from_at, to_at) where kind = 'declared';
create unique index gap_undelivered_key on gap (group_id, node_id, epoch, first_batch) where kind = 'undelivered';
comment on table gap is
  'what may be missing: declared by a node for one of its devices, or found by batches that did not come (undelivered)';
comment on column gap.declared_at is 'when the bridge had the node''s word; for undelivered ones when the hole was old enough to be told';
comment on column gap.from_at is 'declared: as the node says; undelivered: when the bridge had the batch before, to_at: the one after';
comment on column gap.batches is 'how many are missing from first_batch to last_batch: fewer than lie between where a node had too many holes';
comment on column gap.state is
  'open: may still come; given_up: the node no longer keeps it; earlier: gone before our first record; filled: came, by closed_at';

create table node_event (
  group_id  text not null,
  node_id   text not null,
  device_id text not null,
  metric    text not null default '',
  at        timestamptz not null,
  kind      text not null,
  detail    jsonb not null default '{}',
  noted_at  timestamptz not null default clock_timestamp(),
  primary key (group_id, node_id, device_id, metric, kind, at)
);
comment on table node_event is 'what an operator should know of a node: a series that changed, a limit that was reached';
comment on column node_event.device_id is 'empty: of the node itself; metric likewise';
create index node_event_at on node_event (at);

alter table series
  add column version    int not null default 1 check (version > 0),
  add column valid_from timestamptz,
  drop constraint series_group_id_node_id_device_id_metric_kind_key,
  add constraint series_key unique (group_id, node_id, device_id, metric, kind, version);
create index series_changed on series (series_id) where version > 1;
comment on column series.version is 'counts up when a birth announces another datatype or unit';
comment on column series.valid_from is 'readings sampled from then on belong to this version; null: from the beginning';
comment on column series.datatype is 'Sparkplug B datatype';

-- Offsets begin again where a topic is deleted and made anew; when the bridge had the payload tells the two apart.
alter table dead_letter
  drop constraint dead_letter_pkey,
  add column letter_id       bigint generated always as identity primary key,
  add column retried_at      timestamptz,
  add column retry_partition int,
  add column retry_offset    bigint,
  add column retries         int not null default 0,
  add constraint dead_letter_key unique nulls not distinct (kafka_topic, kafka_partition, kafka_offset, item, received_at);
comment on column dead_letter.retried_at is 'when it was sent again, as record (retry_partition, retry_offset) of the payload topic';
comment on column dead_letter.retries is 'how often the payload had been sent again then, that time included';
create index dead_letter_retry on dead_letter (retry_partition, retry_offset) where retried_at is not null;

create view node_accounting as
  select e.group_id, e.node_id, count(*) as epochs, sum(e.newest) as produced,
         sum(e.newest - e.earlier - e.given_up - e.undelivered) as stored,
         sum(e.earlier + e.given_up + e.undelivered) as missing,
         sum(e.undelivered) as undelivered, sum(e.given_up) as given_up, sum(e.earlier) as earlier,
         max(g.declared) as declared_gaps, max(e.heard_at) as heard_at
  from node_epoch e
  left join (
    select group_id, node_id, count(*) as declared from gap where kind = 'declared' group by group_id, node_id
  ) g using (group_id, node_id)
  group by e.group_id, e.node_id;
comment on view node_accounting is 'batches by node: made, come to Kafka and read here (set aside ones too), and missing';

grant select, insert, update on node_epoch to headwater_writer;
grant select, insert on node_event to headwater_writer;
revoke update on gap from headwater_writer;
grant select, insert, delete,
  update (last_batch, batches, state, from_at, to_at, declared_at, closed_at, reason) on gap to headwater_writer;
-- Another datatype is another version now.
revoke update (datatype) on series from headwater_writer;
grant update (retried_at, retry_partition, retry_offset, retries) on dead_letter to headwater_writer;
grant select on node_epoch, node_event, node_accounting to headwater_reader;
grant select on node_accounting to headwater_writer;
