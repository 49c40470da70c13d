-- Why an incident has ended where no score said so, and why some columns are null.
--
-- An incident lasts until a score says that it is over. No score comes of a device that has gone away, and none to the
-- job of an incident that only a replay has found; such a row would last for ever.
set local role headwater_owner;

alter table anomaly
  add column end_reason text check (end_reason is null or (end_reason in ('silent', 'replay') and ended_at is not null));
comment on column anomaly.end_reason is 'null: by its scores; silent: its device has told nothing since, for as long as analysis.gone_after_s, and should it come back the incident is told anew; replay: it lasted by a replay, and the job did not know it';
comment on column anomaly.evidence is 'the readings that made it so: [{metric, at, value, expected, score}]; expected is null with models, which judge windows of several series together and are not asked what single readings they would have had';
