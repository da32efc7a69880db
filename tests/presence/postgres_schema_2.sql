-- A presence store as version 2 of the schema made it, with a few rows.

CREATE SCHEMA IF NOT EXISTS onward_presence;
SET search_path = onward_presence;

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
  PRIMARY KEY ("user", client_id)
);
CREATE INDEX registers_in_grace ON registers (grace_until) WHERE standing = 'grace';
CREATE INDEX registers_by_edge ON registers (edge_id);
CREATE INDEX registers_online ON registers (edge_id) WHERE standing = 'online';
CREATE INDEX registers_unseen ON registers (since, "user", client_id) WHERE standing = 'offline';

CREATE TABLE follows (
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL,
  client_id text COLLATE "C" NOT NULL, opened bigint NOT NULL,
  base bigint NOT NULL, acked bigint NOT NULL, acked_pos bigint NOT NULL,
  ended bigint NOT NULL, session_id text NOT NULL, round bigint NOT NULL,
  first_generation bigint NOT NULL, last_generation bigint NOT NULL,
  PRIMARY KEY ("user", subject, client_id, opened)
);
CREATE INDEX follows_ended ON follows (subject, "user") WHERE ended = 1;

-- Live messages find their recipients here, and nowhere else.
CREATE TABLE waiting (
  subject text COLLATE "C" NOT NULL, "user" text COLLATE "C" NOT NULL,
  client_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (subject, "user", client_id)
);
CREATE INDEX waiting_by_user ON waiting ("user", client_id, subject);

CREATE TABLE fanouts (
  subject text COLLATE "C" NOT NULL, seq bigint NOT NULL, pos bigint NOT NULL,
  publisher text NOT NULL, after_user text COLLATE "C" NOT NULL, partition bigint NOT NULL,
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

CREATE TABLE notifications (
  id text COLLATE "C" PRIMARY KEY, "user" text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL, first_seq bigint NOT NULL,
  created_at double precision NOT NULL, due_at double precision NOT NULL,
  expires_at double precision NOT NULL, joinable bigint NOT NULL, sent_at double precision
);
CREATE INDEX notifications_by_user ON notifications ("user", subject, sent_at);
CREATE INDEX notifications_joinable ON notifications ("user", subject) WHERE joinable = 1;
CREATE INDEX notifications_by_age ON notifications (created_at);

CREATE TABLE deliveries (
  id text COLLATE "C" PRIMARY KEY, notification_id text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL,
  uri text COLLATE "C" NOT NULL, scheme text COLLATE "C" NOT NULL, state text NOT NULL,
  due_at double precision, expires_at double precision NOT NULL, held bigint NOT NULL,
  attempts bigint NOT NULL, tries bigint NOT NULL, repeats_unknown bigint NOT NULL,
  reason text NOT NULL, keeper bigint NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (keeper, scheme, due_at) WHERE due_at IS NOT NULL;
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

-- How many there are, kept by triggers, once per statement: `delivery/<state>` (a pending one that is
-- held back counts as `held`), `client/<standing>`, and `client/waiting`: clients that wait for any
-- subject. Each open term has rows of its own, so that nobody waits for these; a count is the sum of
-- its slots, each of which may be below zero.
CREATE TABLE counts (
  name text NOT NULL, slot bigint NOT NULL, count bigint NOT NULL, PRIMARY KEY (name, slot)
) WITH (fillfactor = 20);

-- What keeps `counts`: once per statement, in the rows of the transaction's slot. A count goes down in
-- the slot of who takes away, so a slot may be below zero; the sum of all slots is the count.

-- The slot of the term that writes; rows that nobody's term writes are counted in slot 0.
CREATE OR REPLACE FUNCTION count_slot() RETURNS bigint LANGUAGE sql STABLE AS
  $$ SELECT coalesce(nullif(current_setting('onward.slot', true), ''), '0')::bigint $$;

CREATE OR REPLACE FUNCTION count_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO onward_presence.counts AS c
      SELECT 'delivery/' || CASE held WHEN 1 THEN 'held' ELSE state END,
        onward_presence.count_slot(), count(*) FROM after_it GROUP BY 1
      ON CONFLICT (name, slot) DO UPDATE SET count = c.count + excluded.count;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO onward_presence.counts AS c
      SELECT 'delivery/' || CASE held WHEN 1 THEN 'held' ELSE state END,
        onward_presence.count_slot(), -count(*) FROM before_it GROUP BY 1
      ON CONFLICT (name, slot) DO UPDATE SET count = c.count + excluded.count;
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION count_registers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO onward_presence.counts AS c
      SELECT 'client/' || standing, onward_presence.count_slot(), count(*)
        FROM after_it GROUP BY 1
      ON CONFLICT (name, slot) DO UPDATE SET count = c.count + excluded.count;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO onward_presence.counts AS c
      SELECT 'client/' || standing, onward_presence.count_slot(), -count(*)
        FROM before_it GROUP BY 1
      ON CONFLICT (name, slot) DO UPDATE SET count = c.count + excluded.count;
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION count_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO onward_presence.counts AS c
      SELECT 'client/waiting', onward_presence.count_slot(), count(*)
        FROM (SELECT DISTINCT "user", client_id FROM after_it) AS one
        WHERE NOT EXISTS (
          SELECT 1 FROM onward_presence.waiting AS w
            WHERE w."user" = one."user" AND w.client_id = one.client_id AND NOT EXISTS (
              SELECT 1 FROM after_it AS a WHERE a.subject = w.subject
                AND a."user" = w."user" AND a.client_id = w.client_id))
        HAVING count(*) > 0
      ON CONFLICT (name, slot) DO UPDATE SET count = c.count + excluded.count;
  ELSE
    INSERT INTO onward_presence.counts AS c
      SELECT 'client/waiting', onward_presence.count_slot(), -count(*)
        FROM (SELECT DISTINCT "user", client_id FROM before_it) AS one
        WHERE NOT EXISTS (
          SELECT 1 FROM onward_presence.waiting AS w
            WHERE w."user" = one."user" AND w.client_id = one.client_id)
        HAVING count(*) > 0
      ON CONFLICT (name, slot) DO UPDATE SET count = c.count + excluded.count;
  END IF;
  RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS deliveries_counted ON deliveries;
CREATE TRIGGER deliveries_counted AFTER INSERT ON deliveries
  REFERENCING NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION count_deliveries();
DROP TRIGGER IF EXISTS deliveries_uncounted ON deliveries;
CREATE TRIGGER deliveries_uncounted AFTER DELETE ON deliveries
  REFERENCING OLD TABLE AS before_it FOR EACH STATEMENT EXECUTE FUNCTION count_deliveries();
DROP TRIGGER IF EXISTS deliveries_recounted ON deliveries;
CREATE TRIGGER deliveries_recounted AFTER UPDATE ON deliveries
  REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
  FOR EACH STATEMENT EXECUTE FUNCTION count_deliveries();
DROP TRIGGER IF EXISTS registers_counted ON registers;
CREATE TRIGGER registers_counted AFTER INSERT ON registers
  REFERENCING NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION count_registers();
DROP TRIGGER IF EXISTS registers_uncounted ON registers;
CREATE TRIGGER registers_uncounted AFTER DELETE ON registers
  REFERENCING OLD TABLE AS before_it FOR EACH STATEMENT EXECUTE FUNCTION count_registers();
DROP TRIGGER IF EXISTS registers_recounted ON registers;
CREATE TRIGGER registers_recounted AFTER UPDATE ON registers
  REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
  FOR EACH STATEMENT EXECUTE FUNCTION count_registers();
DROP TRIGGER IF EXISTS waiting_counted ON waiting;
CREATE TRIGGER waiting_counted AFTER INSERT ON waiting
  REFERENCING NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION count_waiting();
DROP TRIGGER IF EXISTS waiting_uncounted ON waiting;
CREATE TRIGGER waiting_uncounted AFTER DELETE ON waiting
  REFERENCING OLD TABLE AS before_it FOR EACH STATEMENT EXECUTE FUNCTION count_waiting();

INSERT INTO meta VALUES ('schema', '2'), ('log_id', 'log-1');
INSERT INTO terms VALUES (1, 'presence-1', 1, 0);
INSERT INTO registers VALUES ('bob', 'c', 2, 's', 7, 'online', 0, 1, 1, 0, 1, 0, 9, 1);
INSERT INTO follows VALUES ('bob', '/a', 'c', 1, 0, 0, 0, 0, 's', 1, 2, 2);
INSERT INTO notifications VALUES ('n', 'ann', '/a', 1, 0, 0, 1e12, 1, NULL);
INSERT INTO deliveries VALUES
  ('d', 'n', 'ann', '/a', 'mailto:ann@example.org', 'mailto', 'pending', 9, 1e12, 0, 0, 0, 0, '', 1);
