#!/bin/sh
# What the compose file uses of the published image's entry point: a cluster with the superuser's password from a file, a
# database with the extension, and then the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chmod 700 "$PGDATA"
    # shellcheck disable=SC2086  # may be several words
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --encoding=UTF8 --locale=C.UTF-8 $POSTGRES_INITDB_ARGS
    echo "host all all all $POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    pg_ctl --wait start --options="-c listen_addresses='' -c shared_preload_libraries=timescaledb"
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD
    psql --username=postgres --dbname=postgres --command="create database $POSTGRES_DB"
    psql --username=postgres --dbname="$POSTGRES_DB" --command='create extension timescaledb'
    unset PGPASSWORD
    pg_ctl --wait --mode=fast stop
fi
exec "$@"
