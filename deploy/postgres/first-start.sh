#!/bin/sh
# Run once by the image, on the first primary, while only this machine can connect: makes the role
# and the database of Onward and the role that standbys replicate with.
#
# ONWARD_PASSWORD, REPLICATION_PASSWORD: theirs. PEER: the standby's name.
set -eu

psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres \
  -v onward="$ONWARD_PASSWORD" -v replication="$REPLICATION_PASSWORD" -v peer="\"$PEER\"" <<'SQL'
CREATE ROLE onward LOGIN PASSWORD :'onward';
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'replication';
-- A client that stopped in the middle of a transaction must not keep its locks.
ALTER ROLE onward SET idle_in_transaction_session_timeout = '1s';
CREATE DATABASE onward OWNER onward ENCODING 'UTF8' TEMPLATE template0;
-- The last: from the next start on, nothing commits without the standby.
ALTER SYSTEM SET synchronous_standby_names = :'peer';
SQL
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"
