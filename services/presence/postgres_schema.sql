-- The presence store in PostgreSQL: version 3 of its schema. Times are seconds of the database's
-- clock; what the rows mean stands in store.py, state.py and notifications.py. Text is compared byte
-- by byte, whatever the database is set to, and booleans are the numbers 0 and 1: the rows are the
-- same as in sqlite_schema.sql, and so is the SQL that reads and writes them.

CREATE SCHEMA IF NOT EXISTS onward_presence;
SET LOCAL search_path = onward_presence;

-- One value each: schema; log_id; epoch, which fences versions that knew no terms; unplaced, while
-- rows of such a version do not say whose partition they are in.
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL) WITH (fillfactor = 20);
INSERT INTO meta VALUES ('epoch', '0');

-- Who works on the store: its row is locked by every transaction of a term. id: a lease of etcd;
-- slot: where it counts.
CREATE TABLE terms (
  id bigint PRIMARY KEY, name text NOT NULL, slot bigint NOT NULL, closed bigint NOT NULL
) WITH (fillfactor = 20);

-- Whose each partition is, and since which epoch. term 0: nobody's.
CREATE TABLE partitions (
  partition bigint PRIMARY KEY, epoch bigint NOT NULL, term bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE cursors (partition bigint PRIMARY KEY, pos bigint NOT NULL, epoch bigint NOT NULL)
  WITH (fillfactor = 30);

CREATE TABLE registers (
  "user" text COLLATE "C" NOT NULL, client_id text COLLATE "C" NOT NULL,
  generation bigint NOT NULL, session_id text NOT NULL, edge_id bigint NOT NULL,
  standing text NOT NULL, grace_until double precision NOT NULL, number bigint NOT NULL,
  connected bigint NOT NULL, ended bigint NOT NULL, acknowledges bigint NOT NULL,
  active bigint NOT NULL, since double precision NOT NULL, partition bigint NOT NULL,
  away bigint NOT NULL DEFAULT 0, connected_at double precision NOT NULL DEFAULT 0,
  info text NOT NULL DEFAULT '',
  PRIMARY KEY ("user", client_id)
);
CREATE INDEX registers_in_grace ON registers (grace_until) WHERE standing = 'grace';
CREATE INDEX registers_by_edge ON registers (edge_id);
CREATE INDEX registers_online ON registers (edge_id) WHERE standing = 'online';
CREATE INDEX registers_idle ON registers (since, "user", client_id)
  WHERE standing = 'online' AND active = 0 AND away <> generation;
CREATE INDEX registers_unseen ON registers (since, "user", client_id) WHERE standing = 'offline';

CREATE TABLE follows (
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL,
  client_id text COLLATE "C" NOT NULL, opened bigint NOT NULL,
  base bigint NOT NULL, acked bigint NOT NULL, acked_pos bigint NOT NULL,
  ended bigint NOT NULL, session_id text NOT NULL, round bigint NOT NULL,
  first_generation bigint NOT NULL, last_generation bigint NOT NULL,
  started bigint NOT NULL DEFAULT 0,
  PRIMARY KEY ("user", subject, client_id, opened)
);
CREATE INDEX follows_ended ON follows (subject, "user") WHERE ended = 1;
CREATE INDEX follows_open ON follows (subject, "user", client_id) WHERE ended = 0;
CREATE INDEX follows_own ON follows (last_generation, "user", subject)
  WHERE client_id = '@self' AND ended = 0;

-- Live messages find their recipients here, and nowhere else.
CREATE TABLE waiting (
  subject text COLLATE "C" NOT NULL, "user" text COLLATE "C" NOT NULL,
  client_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (subject, "user", client_id)
);
CREATE INDEX waiting_by_user ON waiting ("user", client_id, subject);

-- plan: as in `notifications`.
CREATE TABLE fanouts (
  subject text COLLATE "C" NOT NULL, seq bigint NOT NULL, pos bigint NOT NULL,
  publisher text NOT NULL, after_user text COLLATE "C" NOT NULL, partition bigint NOT NULL,
  plan text NOT NULL DEFAULT '',
  PRIMARY KEY (subject, seq)
);

CREATE TABLE handovers (
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL,
  client_id text COLLATE "C" NOT NULL, opened bigint NOT NULL,
  after bigint NOT NULL, run bigint NOT NULL, partition bigint NOT NULL,
  PRIMARY KEY ("user", subject, client_id, opened)
);

-- clients: a JSON list, sorted. opted_out: the plugin said that nothing is wanted here.
CREATE TABLE endpoints (
  "user" text COLLATE "C" NOT NULL, uri text COLLATE "C" NOT NULL, clients text NOT NULL,
  registered_at double precision NOT NULL, opted_out bigint NOT NULL DEFAULT 0,
  PRIMARY KEY ("user", uri)
);
CREATE INDEX endpoints_by_uri ON endpoints (uri);

-- What a user wants, as JSON (`profile.py`); users who never said anything have no row.
CREATE TABLE profiles ("user" text COLLATE "C" PRIMARY KEY, profile text NOT NULL);

-- When the next notification of a user on a channel is within the cap, if all before were spread.
CREATE TABLE paces (
  "user" text COLLATE "C" NOT NULL, channel text COLLATE "C" NOT NULL,
  at double precision NOT NULL,
  PRIMARY KEY ("user", channel)
);
CREATE INDEX paces_by_age ON paces (at);

CREATE TABLE gone (
  "user" text COLLATE "C" NOT NULL, client_id text COLLATE "C" NOT NULL,
  uri text COLLATE "C" NOT NULL, at double precision NOT NULL,
  PRIMARY KEY ("user", client_id, uri)
);

CREATE TABLE holds (
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL, first_seq bigint NOT NULL,
  client_id text COLLATE "C" NOT NULL, since double precision NOT NULL, acked bigint NOT NULL,
  acked_pos bigint NOT NULL,
  PRIMARY KEY ("user", subject, first_seq, client_id)
);
CREATE INDEX holds_by_age ON holds (since);

CREATE TABLE marks (
  edge_id bigint NOT NULL, partition bigint NOT NULL, round bigint NOT NULL, pos bigint NOT NULL,
  at double precision NOT NULL,
  PRIMARY KEY (partition, edge_id)
) WITH (fillfactor = 50);
CREATE INDEX marks_by_age ON marks (at);

-- One row for each decided message, or for the rest of a long backlog: (from_seq, to_seq].
CREATE TABLE decided (
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL, to_seq bigint NOT NULL,
  from_seq bigint NOT NULL, pos bigint NOT NULL, notification_id text COLLATE "C" NOT NULL,
  reason text NOT NULL, at double precision NOT NULL,
  PRIMARY KEY ("user", subject, to_seq)
);
CREATE INDEX decided_by_notification ON decided (notification_id, to_seq)
  WHERE notification_id <> '';
CREATE INDEX decided_by_age ON decided (at);

CREATE TABLE suppressions (
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL, window_from double precision NOT NULL,
  from_seq bigint NOT NULL, to_seq bigint NOT NULL, count bigint NOT NULL,
  at double precision NOT NULL,
  PRIMARY KEY ("user", subject, reason, window_from)
);
CREATE INDEX suppressions_by_age ON suppressions (at);

-- plan: how it is to be sent, as JSON (`plan.py`); empty: as if there were no routing file.
CREATE TABLE notifications (
  id text COLLATE "C" PRIMARY KEY, "user" text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL, first_seq bigint NOT NULL,
  created_at double precision NOT NULL, due_at double precision NOT NULL,
  expires_at double precision NOT NULL, joinable bigint NOT NULL, sent_at double precision,
  plan text NOT NULL DEFAULT ''
);
CREATE INDEX notifications_by_user ON notifications ("user", subject, sent_at);
CREATE INDEX notifications_joinable ON notifications ("user", subject) WHERE joinable = 1;
CREATE INDEX notifications_by_age ON notifications (created_at);

-- step: of an escalation, from 0. rank: of its priority, lower ones are sent sooner.
CREATE TABLE deliveries (
  id text COLLATE "C" PRIMARY KEY, notification_id text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL,
  uri text COLLATE "C" NOT NULL, scheme text COLLATE "C" NOT NULL, state text NOT NULL,
  due_at double precision, expires_at double precision NOT NULL, held bigint NOT NULL,
  attempts bigint NOT NULL, tries bigint NOT NULL, repeats_unknown bigint NOT NULL,
  reason text NOT NULL, keeper bigint NOT NULL, step bigint NOT NULL DEFAULT 0,
  rank bigint NOT NULL DEFAULT 2
);
CREATE INDEX deliveries_due_by_rank ON deliveries (keeper, scheme, rank, due_at)
  WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (id) WHERE state = 'dead';
CREATE INDEX deliveries_expiring ON deliveries (keeper, expires_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_sending ON deliveries (keeper) WHERE state = 'sending';
CREATE INDEX deliveries_by_notification ON deliveries (notification_id);
CREATE INDEX deliveries_by_user ON deliveries ("user", subject);

-- Every try; outcome is empty while it is under way.
CREATE TABLE attempts (
  delivery_id text COLLATE "C" NOT NULL, number bigint NOT NULL, at double precision NOT NULL,
  ended_at double precision, plugin text NOT NULL, outcome text NOT NULL,
  provider_id text NOT NULL, detail text NOT NULL,
  PRIMARY KEY (delivery_id, number)
);

-- What became known of a delivery after it was answered for, each kind once.
CREATE TABLE receipts (
  delivery_id text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL,
  at double precision NOT NULL, provider_id text NOT NULL, detail text NOT NULL,
  PRIMARY KEY (delivery_id, kind)
);

-- What extensions are told, in order, gap-free within a partition. A message is named, not kept;
-- payload: a `UserPresence` otherwise; total: the bytes of all payloads of the partition up to it.
CREATE TABLE happenings (
  partition bigint NOT NULL, number bigint NOT NULL, subject text NOT NULL, seq bigint NOT NULL,
  payload bytea NOT NULL, at double precision NOT NULL, total bigint NOT NULL,
  PRIMARY KEY (partition, number)
);
CREATE INDEX happenings_by_age ON happenings (at);

-- How many happenings a partition has had, their bytes, and how far each extension has acknowledged them.
CREATE TABLE happening_tails (
  partition bigint PRIMARY KEY, number bigint NOT NULL, total bigint NOT NULL
) WITH (fillfactor = 30);
CREATE TABLE extension_cursors (
  extension text COLLATE "C" NOT NULL, partition bigint NOT NULL, number bigint NOT NULL,
  PRIMARY KEY (extension, partition)
) WITH (fillfactor = 50);

-- How many there are, kept by triggers, once per statement: `delivery/<state>` (a pending one that is
-- held back counts as `held`), `client/<standing>`, and `client/waiting`: clients that wait for any
-- subject. Each open term has rows of its own, so that nobody waits for these; a count is the sum of
-- its slots, each of which may be below zero.
CREATE TABLE counts (
  name text NOT NULL, slot bigint NOT NULL, count bigint NOT NULL, PRIMARY KEY (name, slot)
) WITH (fillfactor = 20);
