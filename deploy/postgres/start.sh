#!/bin/sh
# Starts one of two PostgreSQL servers that are each other's synchronous standby.
#
# SELF, PEER: names of the two, as hosts and as replication names. START_AS: what to become when the
# data directory is empty, `primary` or `standby`; with data in it, it goes on as what it was.
# REPLICATION_PASSWORD: of the role `replicator`. The rest is the official image's.
#
# Whichever of the two is the primary commits nothing that the other has not: both name the other
# in synchronous_standby_names, so a primary that was left behind by a failover accepts nothing.
set -eu

# 0600 from the first byte, or libpq does not read it.
umask 077
export PGPASSFILE=/tmp/replication.pgpass
printf '*:*:*:replicator:%s\n' "$REPLICATION_PASSWORD" >"$PGPASSFILE"

if [ ! -s "$PGDATA/PG_VERSION" ] && [ "$START_AS" = standby ]; then
  until pg_isready -q -h "$PEER"; do
    echo "waiting for $PEER"
    sleep 1
  done
  # Fails if PEER is a standby too, and leaves an empty directory: nothing to mend by hand. It must
  # not go by the name of SELF: the primary would take a copy under way for its standby, and
  # commit on the word of something that cannot be promoted. The server has the name by cluster_name.
  pg_basebackup -D "$PGDATA" -d "host=$PEER user=replicator" -X stream -c fast -R
  # Copied from the peer, where it names this server. The last line counts.
  echo "synchronous_standby_names = '\"$PEER\"'" >>"$PGDATA/postgresql.auto.conf"
fi

exec docker-entrypoint.sh postgres \
  -c cluster_name="$SELF" \
  -c synchronous_commit=on \
  -c tcp_user_timeout=3s \
  -c wal_keep_size=1GB \
  "$@"
