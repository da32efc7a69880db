-- From version 2 of the schema to version 3: how notifications are to be sent, what users want, what
-- extensions are told.

ALTER TABLE registers ADD COLUMN away bigint NOT NULL DEFAULT 0,
  ADD COLUMN connected_at double precision NOT NULL DEFAULT 0,
  ADD COLUMN info text NOT NULL DEFAULT '';
CREATE INDEX registers_idle ON registers (since)
  WHERE standing = 'online' AND active = 0;
ALTER TABLE follows ADD COLUMN started bigint NOT NULL DEFAULT 0;
CREATE INDEX follows_open ON follows (subject, "user") WHERE ended = 0;
ALTER TABLE fanouts ADD COLUMN plan text NOT NULL DEFAULT '';
ALTER TABLE notifications ADD COLUMN plan text NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN step bigint NOT NULL DEFAULT 0,
  ADD COLUMN rank bigint NOT NULL DEFAULT 2;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (keeper, scheme, rank, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (id) WHERE state = 'dead';

-- What a user wants, as JSON (`profile.py`); users who never said anything have no row.
CREATE TABLE profiles ("user" text COLLATE "C" PRIMARY KEY, profile text NOT NULL);

-- When the next notification of a user on a channel is within the cap, if all before were spread.
CREATE TABLE paces (
  "user" text COLLATE "C" NOT NULL, channel text COLLATE "C" NOT NULL,
  at double precision NOT NULL,
  PRIMARY KEY ("user", channel)
);
CREATE INDEX paces_by_age ON paces (at);

-- What became known of a delivery after it was answered for, each kind once.
CREATE TABLE receipts (
  delivery_id text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL,
  at double precision NOT NULL, provider_id text NOT NULL, detail text NOT NULL,
  PRIMARY KEY (delivery_id, kind)
);

-- What extensions are told, in order, gap-free within a partition. A message is named, not kept;
-- payload: a `UserPresence` otherwise.
CREATE TABLE happenings (
  partition bigint NOT NULL, number bigint NOT NULL, subject text NOT NULL, seq bigint NOT NULL,
  payload bytea NOT NULL, at double precision NOT NULL,
  PRIMARY KEY (partition, number)
);
CREATE INDEX happenings_by_age ON happenings (at);

-- How many happenings a partition has had, and how far each extension has acknowledged them.
CREATE TABLE happening_tails (partition bigint PRIMARY KEY, number bigint NOT NULL)
  WITH (fillfactor = 30);
CREATE TABLE extension_cursors (
  extension text COLLATE "C" NOT NULL, partition bigint NOT NULL, number bigint NOT NULL,
  PRIMARY KEY (extension, partition)
) WITH (fillfactor = 50);
