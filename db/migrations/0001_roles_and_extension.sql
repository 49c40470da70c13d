-- The extension, and the three roles that everything else is granted to.
--
-- Roles belong to the whole server and may have been made for another database, even at this moment, so each is
-- made only where it is missing. None may log in until `python -m db login ROLE` gives it a password.
create extension if not exists timescaledb;

do $$
declare
  role_name text;
begin
  foreach role_name in array array['headwater_owner', 'headwater_writer', 'headwater_reader'] loop
    begin
      if not exists (select from pg_roles where rolname = role_name) then
        execute format('create role %I nologin', role_name);
      end if;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end loop;
  -- The migrations become the owner, so that no table belongs to whoever happened to run them.
  if not pg_has_role(current_user, 'headwater_owner', 'member') then
    execute format('grant headwater_owner to %I', current_user);
  end if;
  execute format('grant connect on database %I to headwater_owner, headwater_writer, headwater_reader', current_database());
  -- The writer stages a batch in a temporary table when part of it is already stored.
  execute format('grant temporary on database %I to headwater_writer', current_database());
end
$$;

grant create, usage on schema public to headwater_owner;
grant usage on schema public to headwater_writer, headwater_reader;
