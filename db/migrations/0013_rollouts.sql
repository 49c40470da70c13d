-- Updates of nodes in stages: what an operator asked for, how far that is, and what each node says of it.
--
-- All that a roll-out is stands here, so that whoever drives it can be killed at any moment and goes on where it was. What
-- nodes tell stays where it lies, among the readings; what was made of it (confirmed, failed) is written down once.
do $$
begin
  begin
    if not exists (select from pg_roles where rolname = 'headwater_operator') then
      create role headwater_operator nologin;
    end if;
  exception when duplicate_object or unique_violation then
    null;
  end;
  execute format('grant connect on database %I to headwater_operator', current_database());
  grant headwater_reader to headwater_operator;
end
$$;

set local role headwater_owner;

create table rollout (
  rollout_id     int generated always as identity primary key,
  group_id       text not null,
  kind           text not null check (kind in ('agent', 'config', 'model')),
  name           text not null,
  version        text not null,
  counter        bigint not null check (counter > 0),
  sha256         text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  size_bytes     bigint not null check (size_bytes > 0),
  unpacked_bytes bigint not null check (unpacked_bytes > 0),
  url            text,
  stages         text[] not null check (cardinality(stages) > 0),
  stage          int not null default 1 check (stage between 1 and cardinality(stages)),
  max_failed     int not null check (max_failed >= 0),
  soak           interval not null check (soak >= '0'),
  within         interval not null check (within > '0'),
  started_by     text not null,
  started_at     timestamptz not null default now(),
  expires_at     timestamptz not null,
  state          text not null default 'running' check (state in ('running', 'paused', 'stopped', 'aborted', 'done')),
  reason         text,
  changed_at     timestamptz not null default now(),
  published_at   timestamptz,
  driven_at      timestamptz,
  cleared_at     timestamptz check (cleared_at is null or state in ('aborted', 'done'))
);
comment on table rollout is 'a version of an agent, a config or a model that the nodes of a group were to get, in stages';
comment on column rollout.counter is 'of its signed desired states: a node takes none that is not above the last one it took';
comment on column rollout.max_failed is 'nodes that may fail; one more, and it stops by itself';
comment on column rollout.soak is 'how long nodes have to stay confirmed before the next stage begins';
comment on column rollout.within is 'how long a node that is there may take to confirm';
comment on column rollout.state is 'paused: by an operator; stopped: by its threshold; both can be resumed, aborted and done cannot';
comment on column rollout.published_at is 'when its chunks stood at the broker; null with a url';
comment on column rollout.driven_at is 'when somebody last looked after it: it goes on only while that is so';
comment on column rollout.cleared_at is 'when all of it was gone from the broker';
-- Two at once would each ask nodes for their own version, and one that ends would take away what the other has asked.
create unique index rollout_open on rollout (group_id, kind, name) where cleared_at is null;

create table rollout_node (
  rollout_id int not null references rollout,
  node_id    text not null,
  stage      int not null check (stage > 0),
  state      text not null default 'waiting' check (state in ('waiting', 'asked', 'confirmed', 'failed', 'missed')),
  asked_at   timestamptz,
  reached_at timestamptz,
  settled_at timestamptz,
  reason     text,
  primary key (rollout_id, node_id)
);
comment on table rollout_node is 'what a roll-out asked of a node, and what became of it';
comment on column rollout_node.state is 'missed: it was not there, or not yet done, when the roll-out ended';
comment on column rollout_node.reached_at is 'when it was first seen there after it had been asked: from then on it has its time to confirm';
create index rollout_node_node on rollout_node (node_id);

-- Bounded by a month, so that a node that is gone is not looked for in every chunk there is. What a node tells need not be
-- what it should be: nothing in here may fail by it.
create view node_update as
  select distinct on (s.group_id, s.node_id, split_part(s.metric, '/', 2), split_part(s.metric, '/', 3))
         s.group_id, s.node_id, split_part(s.metric, '/', 2) as kind, split_part(s.metric, '/', 3) as name,
         case when told.news ->> 'counter' ~ '^[0-9]{1,18}$' then (told.news ->> 'counter')::bigint end as counter,
         left(told.news ->> 'wanted', 100) as wanted, left(told.news ->> 'running', 100) as running,
         left(told.news ->> 'state', 100) as state, left(told.news ->> 'reason', 500) as reason,
         told.sampled_at as told_at
  from series s
  cross join lateral (
    select r.sampled_at, json_object_or_null(r.value) as news from reading_text r
    where r.series_id = s.series_id and r.sampled_at > now() - interval '30 days'
    order by r.sampled_at desc limit 1) told
  where s.device_id = '' and s.kind = 'text' and s.metric ~ '^Update/(agent|config|model)/[^/]+$'
  order by s.group_id, s.node_id, split_part(s.metric, '/', 2), split_part(s.metric, '/', 3), told.sampled_at desc;
comment on view node_update is
  'what each node said last of each update, within a month: the version that it was asked for, the one that runs, and how it goes';

create view rollout_progress as
  select o.rollout_id, o.group_id, o.kind, o.name, o.version, o.state, o.reason, o.started_at, o.changed_at, o.driven_at,
         o.max_failed, n.stage, o.stages[n.stage] as stage_name, n.stage = o.stage as is_current, count(*) as nodes,
         count(*) filter (where n.state = 'waiting') as waiting,
         count(*) filter (where n.state = 'asked' and n.reached_at is null) as away,
         count(*) filter (where n.state = 'asked' and n.reached_at is not null) as at_work,
         count(*) filter (where n.state = 'confirmed') as confirmed,
         count(*) filter (where n.state = 'failed') as failed,
         count(*) filter (where n.state = 'missed') as missed,
         min(n.asked_at) as asked_at, max(n.settled_at) as settled_at
  from rollout o join rollout_node n using (rollout_id)
  group by o.rollout_id, n.stage;
comment on view rollout_progress is 'how far each stage of each roll-out is, in nodes';

-- What was asked for can be continued, halted and ended, and never be written anew.
grant insert on rollout, rollout_node to headwater_operator;
grant update (stage, max_failed, state, reason, changed_at, published_at, driven_at, cleared_at) on rollout
  to headwater_operator;
grant update (state, asked_at, reached_at, settled_at, reason) on rollout_node to headwater_operator;
-- Where a node stands says who installs it.
grant insert, update, delete on node_position to headwater_operator;
grant select on rollout, rollout_node, node_update, rollout_progress to headwater_reader;
