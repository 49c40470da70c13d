-- How far forecasting has come, and how good its forecasts were.
--
-- Rows of forecast and anomaly are inserted in one transaction with how far that came, so a restart neither leaves out
-- nor repeats an end of a window. An incident that lasts is kept here until it is over: its row in anomaly may be
-- looked at, deleted or replayed meanwhile.
set local role headwater_owner;

create table model_progress (
  place     text not null check (place in ('cloud', 'edge')),
  model     text not null,
  group_id  text not null,
  node_id   text not null,
  device_id text not null,
  subject   text not null,
  done_to   timestamptz not null,
  incident  jsonb,
  primary key (place, model, group_id, node_id, device_id, subject)
);
comment on table model_progress is 'how far the results of a model of a device have come: later ends of windows are still to be looked at';
comment on column model_progress.incident is 'of a model of anomalies: what is known of the incident that lasts or may become one';

-- Ratios of sums: a quiet hour in which both forecasts are right says little about either.
create view forecast_skill as
  select f.model, f.version, f.place, f.target, s.horizon_s, time_bucket(interval '1 day', s.target_at) as day,
         count(*) as forecasts,
         avg(s.pinball) as pinball,
         avg(s.is_covered::int) as coverage,
         avg(abs(s.error)) as mae,
         sum(abs(s.error)) filter (where s.naive_error is not null)
           / nullif(sum(abs(s.naive_error)), 0) as mase_naive,
         sum(abs(s.error)) filter (where s.seasonal_error is not null)
           / nullif(sum(abs(s.seasonal_error)), 0) as mase_seasonal,
         f.group_id, f.node_id, f.device_id, f.subject
    from forecast_score s join forecaster f using (forecaster_id)
   group by f.forecaster_id, s.horizon_s, day;
comment on view forecast_skill is 'how good forecasts of a day were, by forecaster and horizon; a mase below 1 is better than the forecast that nothing changes';

grant select, insert, update on model_progress to headwater_writer;
grant select on model_progress, forecast_skill to headwater_reader;
grant select on forecast_skill to headwater_writer;
