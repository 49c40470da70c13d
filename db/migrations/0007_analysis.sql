-- What the stream works out of readings: bars, trends, anomalies, forecasts and how good these were.
--
-- Every row has a key that follows from what it is about, so what is worked out again replaces itself. Here, and nowhere
-- else, the writer may delete: a replay takes a span of time out and puts it in again.
-- No foreign key from a hypertable to series (see 0002).
set local role headwater_owner;

create table bar (
  series_id int not null,
  width_s   int not null check (width_s > 0),
  starts_at timestamptz not null,
  open      double precision not null,
  high      double precision not null,
  low       double precision not null,
  close     double precision not null,
  volume    double precision,
  quotes    int not null check (quotes > 0),
  is_final  boolean not null,
  constraint bar_key unique (series_id, width_s, starts_at)
);
comment on table bar is 'prices of a series within `width_s` seconds from starts_at on; no row where there was no quote';
comment on column bar.series_id is 'of the price';
comment on column bar.volume is 'traded within the bar; null where no volume is told';
comment on column bar.is_final is 'past the watermark: what comes later is counted in late_reading, and does not change it';

create table trend (
  series_id   int not null,
  at          timestamptz not null,
  level       double precision not null,
  slope_per_s double precision not null,
  slope_se    double precision not null check (slope_se >= 0),
  volatility  double precision not null check (volatility >= 0),
  regime      text not null check (regime in ('up', 'down', 'flat', 'changed')),
  constraint trend_key unique (series_id, at)
);
comment on table trend is 'local linear trend of a series at the end of a step';
comment on column trend.slope_se is 'standard error of the slope';
comment on column trend.volatility is 'standard deviation of what a step brings beyond the trend';

create table anomaly (
  group_id   text not null,
  node_id    text not null,
  device_id  text not null,
  metric     text not null,
  detector   text not null,
  place      text not null check (place in ('cloud', 'edge')),
  started_at timestamptz not null,
  ended_at   timestamptz check (ended_at >= started_at),
  peak_at    timestamptz not null,
  peak_score double precision not null,
  threshold  double precision not null,
  model      text,
  version    text,
  evidence   jsonb not null default '[]',
  primary key (group_id, node_id, device_id, metric, detector, place, started_at)
);
comment on table anomaly is 'an incident: one row from its start to its end';
comment on column anomaly.metric is 'empty: of the device as a whole';
comment on column anomaly.ended_at is 'null: it lasts';
comment on column anomaly.evidence is 'the readings that made it so: [{metric, at, value, expected, score}]';
create index anomaly_started_at on anomaly (started_at);

create table forecaster (
  forecaster_id int generated always as identity primary key,
  group_id      text not null,
  node_id       text not null,
  device_id     text not null,
  subject       text not null,
  model         text not null,
  version       text not null,
  place         text not null check (place in ('cloud', 'edge')),
  target        text not null,
  unit          text,
  series_id     int,
  unique (group_id, node_id, device_id, subject, model, version, place, target)
);
comment on table forecaster is 'who forecasts what: the device whose readings a model looks at, and where it runs';
comment on column forecaster.subject is 'what of the device, such as a symbol; empty: all of it';
comment on column forecaster.series_id is 'the series that the target is the value of; null: worked out of several, or of changes';

create table forecast (
  forecaster_id int not null,
  made_at       timestamptz not null,
  horizon_s     double precision not null check (horizon_s > 0),
  target_at     timestamptz not null,
  p10           double precision,
  p50           double precision,
  p90           double precision,
  levels        real[] not null,
  quantiles     double precision[] not null,
  computed_at   timestamptz not null default clock_timestamp(),
  constraint forecast_key unique (forecaster_id, made_at, horizon_s)
);
comment on column forecast.made_at is 'the end of what the model looked at; computed_at is when it ran, in a replay much later';
comment on column forecast.levels is 'which quantiles, rising: 0.1 is the tenth percentile; p10, p50, p90 are the same where the model has them';

create table forecast_score (
  forecaster_id  int not null,
  made_at        timestamptz not null,
  horizon_s      double precision not null,
  target_at      timestamptz not null,
  actual         double precision not null,
  pinball        double precision not null,
  is_covered     boolean,
  error          double precision not null,
  naive_error    double precision,
  seasonal_error double precision,
  constraint forecast_score_key unique (forecaster_id, target_at, made_at, horizon_s)
);
comment on table forecast_score is 'a forecast whose time has come';
comment on column forecast_score.is_covered is 'whether what came lies between p10 and p90; null where the model has neither';
comment on column forecast_score.error is 'what came less the median';
comment on column forecast_score.naive_error is 'of the forecast that nothing changes; seasonal_error: that it is as a season ago';

create table late_reading (
  series_id  int not null,
  bucket_at  timestamptz not null,
  readings   bigint not null check (readings > 0),
  noted_at   timestamptz not null default clock_timestamp(),
  query_id   uuid not null,
  constraint late_reading_key unique (series_id, bucket_at)
);
comment on table late_reading is 'readings that came past the watermark, by the hour they are of: stored, but not in bars and trends until a replay';

comment on column late_reading.query_id is 'who counted: a query that reads the log again from its beginning counts anew';

create table analysis_batch (
  query_id     uuid not null,
  batch_id     bigint not null,
  committed_at timestamptz not null default clock_timestamp(),
  offsets      jsonb not null,
  readings     bigint not null default 0,
  late         bigint not null default 0,
  bars         bigint not null default 0,
  trends       bigint not null default 0,
  anomalies    bigint not null default 0,
  primary key (query_id, batch_id)
);
comment on table analysis_batch is 'the ledger of the analysis, as ingest_batch is that of the readings';
create index analysis_batch_committed_at on analysis_batch (committed_at);

do $$
begin
  perform create_hypertable('bar', by_range('starts_at', interval '30 days'), create_default_indexes => false);
  perform create_hypertable('trend', by_range('at', interval '1 day'), create_default_indexes => false);
  perform create_hypertable('forecast', by_range('made_at', interval '7 days'), create_default_indexes => false);
  perform create_hypertable('forecast_score', by_range('target_at', interval '7 days'), create_default_indexes => false);
end
$$;

grant select, insert, update, delete on bar, trend, anomaly, late_reading to headwater_writer;
grant select, insert, delete on forecast, forecast_score to headwater_writer;
grant select, insert on forecaster to headwater_writer;
grant select, insert, update on analysis_batch to headwater_writer;
grant select on bar, trend, anomaly, forecaster, forecast, forecast_score, late_reading, analysis_batch to headwater_reader;
