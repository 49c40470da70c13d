-- What was measured. A row of `reading` is narrow, because there are many: who and what stand once in `series`.
--
-- The key (series_id, sampled_at) is what drops a reading that was delivered twice, and the only index: a second one
-- on sampled_at would cost every insert, and chunks already answer "the last hour".
-- No foreign key from a hypertable to series: chunk creation under concurrent writers deadlocks on it.
-- Chunks of a day: at 1,000 readings/s that is some 8 GB with its index; a year of late data still is only 366 chunks.
set local role headwater_owner;

create table series (
  series_id  int generated always as identity primary key,
  group_id   text not null,
  node_id    text not null,
  device_id  text not null,
  metric     text not null,
  kind       text not null check (kind in ('numeric', 'text')),
  datatype   smallint not null,
  unit       text,
  created_at timestamptz not null default now(),
  unique (group_id, node_id, device_id, metric, kind)
);
comment on column series.device_id is 'empty: the node itself';
comment on column series.datatype is 'Sparkplug B datatype, as last announced';

create table reading (
  series_id  int not null,
  sampled_at timestamptz not null,
  value      double precision,
  quality    smallint not null,
  -- 192 is Sparkplug''s GOOD.
  constraint reading_good_has_value check (value is not null or quality <> 192),
  constraint reading_key unique (series_id, sampled_at)
);
comment on table reading is 'booleans are 0 and 1; DATETIME metrics are epoch seconds; null only with a quality that is not good';

create table reading_text (
  series_id  int not null,
  sampled_at timestamptz not null,
  value      text,
  quality    smallint not null,
  constraint reading_text_good_has_value check (value is not null or quality <> 192),
  constraint reading_text_key unique (series_id, sampled_at)
);

do $$
begin
  perform create_hypertable('reading', by_range('sampled_at', interval '1 day'), create_default_indexes => false);
  perform create_hypertable('reading_text', by_range('sampled_at', interval '7 days'), create_default_indexes => false);
end
$$;

-- For people at psql; dashboards join by themselves.
create view reading_named as
  select s.group_id, s.node_id, s.device_id, s.metric, r.sampled_at, r.value, s.unit, r.quality
  from reading r join series s using (series_id);

grant select, insert, update (unit, datatype) on series to headwater_writer;
grant select, insert on reading, reading_text to headwater_writer;
grant select on series, reading, reading_text, reading_named to headwater_reader;
