-- Frames of incidents that a camera's agent was allowed to send: a few JPEGs around each, one row for each frame.
--
-- The key drops a frame that was delivered twice. No hypertable: events are few, and a chunk's key would need the time in
-- it. `frames` is what the clip was planned with; fewer may come, since images are the first that a full spool gives up.
set local role headwater_owner;

create table camera_event (
  group_id   text not null,
  node_id    text not null,
  device_id  text not null,
  event_id   text not null,
  frame_no   int not null check (frame_no between 1 and frames),
  frames     int not null,
  kind       text not null,
  started_at timestamptz not null,
  sampled_at timestamptz not null,
  jpeg       bytea not null,
  primary key (group_id, node_id, device_id, event_id, frame_no)
);
comment on table camera_event is 'one JPEG frame of an incident that a camera saw';
comment on column camera_event.kind is 'what set it off: motion, ZONE/motion, covered, blurred, moved, frozen or scene';
-- A JPEG does not get smaller by compressing it again.
alter table camera_event alter column jpeg set storage external;
create index camera_event_started_at on camera_event (started_at);

alter table ingest_batch add column clip_rows bigint not null default 0;

grant select, insert on camera_event to headwater_writer;
grant select on camera_event to headwater_reader;
