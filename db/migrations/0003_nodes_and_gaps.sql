-- Who is there: nodes and devices come and go by Sparkplug births and deaths, and say themselves what they lost.
--
-- Times here are the bridge's (received_at), not the device's: a death is a will that was written at connect, and a
-- device with a wrong clock must not look dead.
set local role headwater_owner;

-- Updated once per batch: room in each page keeps those updates off the index.
create table node (
  group_id      text not null,
  node_id       text not null,
  first_seen_at timestamptz not null,
  last_seen_at  timestamptz not null,
  last_birth_at timestamptz,
  last_death_at timestamptz,
  online        boolean not null default false,
  bd_seq        bigint,
  primary key (group_id, node_id)
) with (fillfactor = 50);
comment on column node.bd_seq is 'of the last birth; a death with another number belongs to an older connection';

create table node_status (
  group_id  text not null,
  node_id   text not null,
  device_id text not null,
  at        timestamptz not null,
  status    text not null check (status in ('online', 'offline')),
  bd_seq    bigint,
  unique (group_id, node_id, device_id, at, status)
);
comment on column node_status.device_id is 'empty: the node itself';

create table gap (
  group_id    text not null,
  node_id     text not null,
  device_id   text not null,
  from_at     timestamptz not null,
  to_at       timestamptz not null check (to_at >= from_at),
  reason      text not null,
  declared_at timestamptz not null,
  unique (group_id, node_id, device_id, from_at, to_at)
);
comment on table gap is 'a node''s own word that readings of a device between two times may be missing';

grant select, insert, update on node to headwater_writer;
grant select, insert on node_status, gap to headwater_writer;
grant select on node, node_status, gap to headwater_reader;
