-- The presence store. Times are seconds of the store's clock; what the rows mean stands in
-- store.py, state.py and notifications.py.

-- One value each: log_id; epoch, which fences versions that knew no terms; unplaced, while rows of
-- such a version do not say whose partition they are in.
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

INSERT INTO meta VALUES ('epoch', '0') ON CONFLICT DO NOTHING;

-- Who works on the store. id: a lease of etcd; slot: nothing here, where one process writes.
CREATE TABLE IF NOT EXISTS terms (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, slot INTEGER NOT NULL, closed INTEGER NOT NULL
);

-- Whose each partition is, and since which epoch. term 0: nobody's.
CREATE TABLE IF NOT EXISTS partitions (
  partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, term INTEGER NOT NULL
);

-- How far each partition of the log has taken effect, and the epoch of its last entry.
CREATE TABLE IF NOT EXISTS cursors (
  partition INTEGER PRIMARY KEY, pos INTEGER NOT NULL, epoch INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS registers (
  user TEXT NOT NULL, client_id TEXT NOT NULL,
  generation INTEGER NOT NULL, session_id TEXT NOT NULL, edge_id INTEGER NOT NULL,
  standing TEXT NOT NULL, grace_until REAL NOT NULL, number INTEGER NOT NULL,
  connected INTEGER NOT NULL, ended INTEGER NOT NULL, acknowledges INTEGER NOT NULL,
  active INTEGER NOT NULL, since REAL NOT NULL, partition INTEGER NOT NULL DEFAULT -1,
  away INTEGER NOT NULL DEFAULT 0, connected_at REAL NOT NULL DEFAULT 0,
  info TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (user, client_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS registers_in_grace ON registers (grace_until)
  WHERE standing = 'grace';
CREATE INDEX IF NOT EXISTS registers_by_edge ON registers (edge_id);
CREATE INDEX IF NOT EXISTS registers_online ON registers (edge_id) WHERE standing = 'online';
CREATE INDEX IF NOT EXISTS registers_idle ON registers (since, user, client_id)
  WHERE standing = 'online' AND active = 0 AND away <> generation;
CREATE INDEX IF NOT EXISTS registers_unseen ON registers (since, user, client_id)
  WHERE standing = 'offline';

CREATE TABLE IF NOT EXISTS follows (
  user TEXT NOT NULL, subject TEXT NOT NULL, client_id TEXT NOT NULL, opened INTEGER NOT NULL,
  base INTEGER NOT NULL, acked INTEGER NOT NULL, acked_pos INTEGER NOT NULL,
  ended INTEGER NOT NULL, session_id TEXT NOT NULL, round INTEGER NOT NULL,
  first_generation INTEGER NOT NULL, last_generation INTEGER NOT NULL,
  started INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (user, subject, client_id, opened)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS follows_ended ON follows (subject, user) WHERE ended = 1;
CREATE INDEX IF NOT EXISTS follows_open ON follows (subject, user, client_id) WHERE ended = 0;
CREATE INDEX IF NOT EXISTS follows_own ON follows (last_generation, user, subject)
  WHERE client_id = '@self' AND ended = 0;

-- Live messages find their recipients here, and nowhere else.
CREATE TABLE IF NOT EXISTS waiting (
  subject TEXT NOT NULL, user TEXT NOT NULL, client_id TEXT NOT NULL,
  PRIMARY KEY (subject, user, client_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_by_user ON waiting (user, client_id, subject);

-- Messages of more waiting users than one transaction decides. plan: as in `notifications`.
CREATE TABLE IF NOT EXISTS fanouts (
  subject TEXT NOT NULL, seq INTEGER NOT NULL, pos INTEGER NOT NULL, publisher TEXT NOT NULL,
  after_user TEXT NOT NULL, partition INTEGER NOT NULL DEFAULT -1, plan TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (subject, seq)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS handovers (
  user TEXT NOT NULL, subject TEXT NOT NULL, client_id TEXT NOT NULL, opened INTEGER NOT NULL,
  after INTEGER NOT NULL, run INTEGER NOT NULL, partition INTEGER NOT NULL DEFAULT -1,
  PRIMARY KEY (user, subject, client_id, opened)
) WITHOUT ROWID;

-- clients: a JSON list, sorted. opted_out: the plugin said that nothing is wanted here.
CREATE TABLE IF NOT EXISTS endpoints (
  user TEXT NOT NULL, uri TEXT NOT NULL, clients TEXT NOT NULL, registered_at REAL NOT NULL,
  opted_out INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (user, uri)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS endpoints_by_uri ON endpoints (uri);

-- What a user wants, as JSON (`profile.py`); users who never said anything have no row.
CREATE TABLE IF NOT EXISTS profiles (user TEXT PRIMARY KEY, profile TEXT NOT NULL) WITHOUT ROWID;

-- When the next notification of a user on a channel is within the cap, if all before were spread.
CREATE TABLE IF NOT EXISTS paces (
  user TEXT NOT NULL, channel TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (user, channel)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS paces_by_age ON paces (at);

-- Endpoints that a provider reported gone, for each client until it has been told.
CREATE TABLE IF NOT EXISTS gone (
  user TEXT NOT NULL, client_id TEXT NOT NULL, uri TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (user, client_id, uri)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS holds (
  user TEXT NOT NULL, subject TEXT NOT NULL, first_seq INTEGER NOT NULL, client_id TEXT NOT NULL,
  since REAL NOT NULL, acked INTEGER NOT NULL, acked_pos INTEGER NOT NULL,
  PRIMARY KEY (user, subject, first_seq, client_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS holds_by_age ON holds (since);

CREATE TABLE IF NOT EXISTS marks (
  edge_id INTEGER NOT NULL, partition INTEGER NOT NULL,
  round INTEGER NOT NULL, pos INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (partition, edge_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS marks_by_age ON marks (at);

-- One row for each decided message, or for the rest of a long backlog: (from_seq, to_seq].
-- notification_id: what it became part of, empty if it was suppressed; then reason says why.
CREATE TABLE IF NOT EXISTS decided (
  user TEXT NOT NULL, subject TEXT NOT NULL, to_seq INTEGER NOT NULL, from_seq INTEGER NOT NULL,
  pos INTEGER NOT NULL, notification_id TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (user, subject, to_seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS decided_by_notification ON decided (notification_id, to_seq)
  WHERE notification_id <> '';
CREATE INDEX IF NOT EXISTS decided_by_age ON decided (at);

-- How much was suppressed, and why, in each window of time.
CREATE TABLE IF NOT EXISTS suppressions (
  user TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL, window_from REAL NOT NULL,
  from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL, count INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (user, subject, reason, window_from)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS suppressions_by_age ON suppressions (at);

-- plan: how it is to be sent, as JSON (`plan.py`); empty: as if there were no routing file.
CREATE TABLE IF NOT EXISTS notifications (
  id TEXT PRIMARY KEY, user TEXT NOT NULL, subject TEXT NOT NULL, first_seq INTEGER NOT NULL,
  created_at REAL NOT NULL, due_at REAL NOT NULL, expires_at REAL NOT NULL,
  joinable INTEGER NOT NULL, sent_at REAL, plan TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS notifications_by_user ON notifications (user, subject, sent_at);
CREATE INDEX IF NOT EXISTS notifications_joinable ON notifications (user, subject)
  WHERE joinable = 1;
CREATE INDEX IF NOT EXISTS notifications_by_age ON notifications (created_at);

-- step: of an escalation, from 0. rank: of its priority, lower ones are sent sooner.
CREATE TABLE IF NOT EXISTS deliveries (
  id TEXT PRIMARY KEY, notification_id TEXT NOT NULL, user TEXT NOT NULL, subject TEXT NOT NULL,
  uri TEXT NOT NULL, scheme TEXT NOT NULL, state TEXT NOT NULL, due_at REAL,
  expires_at REAL NOT NULL, held INTEGER NOT NULL, attempts INTEGER NOT NULL,
  tries INTEGER NOT NULL, repeats_unknown INTEGER NOT NULL, reason TEXT NOT NULL,
  keeper INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL DEFAULT 0,
  rank INTEGER NOT NULL DEFAULT 2
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (keeper, scheme, rank, due_at)
  WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_dead ON deliveries (id) WHERE state = 'dead';
CREATE INDEX IF NOT EXISTS deliveries_expiring ON deliveries (keeper, expires_at)
  WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_sending ON deliveries (keeper) WHERE state = 'sending';
CREATE INDEX IF NOT EXISTS deliveries_by_notification ON deliveries (notification_id);
CREATE INDEX IF NOT EXISTS deliveries_by_user ON deliveries (user, subject);

-- Every try; outcome is empty while it is under way.
CREATE TABLE IF NOT EXISTS attempts (
  delivery_id TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, ended_at REAL,
  plugin TEXT NOT NULL, outcome TEXT NOT NULL, provider_id TEXT NOT NULL, detail TEXT NOT NULL,
  PRIMARY KEY (delivery_id, number)
) WITHOUT ROWID;

-- What became known of a delivery after it was answered for, each kind once.
CREATE TABLE IF NOT EXISTS receipts (
  delivery_id TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, provider_id TEXT NOT NULL,
  detail TEXT NOT NULL,
  PRIMARY KEY (delivery_id, kind)
) WITHOUT ROWID;

-- What extensions are told, in order, gap-free within a partition. A message is named, not kept;
-- payload: a `UserPresence` otherwise; total: the bytes of all payloads of the partition up to it.
CREATE TABLE IF NOT EXISTS happenings (
  partition INTEGER NOT NULL, number INTEGER NOT NULL, subject TEXT NOT NULL, seq INTEGER NOT NULL,
  payload BLOB NOT NULL, at REAL NOT NULL, total INTEGER NOT NULL,
  PRIMARY KEY (partition, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS happenings_by_age ON happenings (at);

-- How many happenings a partition has had, their bytes, and how far each extension has acknowledged them.
CREATE TABLE IF NOT EXISTS happening_tails (
  partition INTEGER PRIMARY KEY, number INTEGER NOT NULL, total INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS extension_cursors (
  extension TEXT NOT NULL, partition INTEGER NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY (extension, partition)
) WITHOUT ROWID;

-- How many there are, kept by the triggers below, so that nobody has to count millions:
-- `delivery/<state>` (a pending one that is held back counts as `held`), `client/<standing>`, and
-- `client/waiting`: clients that wait for any subject.
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS deliveries_counted AFTER INSERT ON deliveries BEGIN
  INSERT INTO counts VALUES ('delivery/' || iif(NEW.held, 'held', NEW.state), 1)
    ON CONFLICT (name) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER IF NOT EXISTS deliveries_uncounted AFTER DELETE ON deliveries BEGIN
  UPDATE counts SET count = count - 1
    WHERE name = 'delivery/' || iif(OLD.held, 'held', OLD.state);
END;
CREATE TRIGGER IF NOT EXISTS deliveries_recounted AFTER UPDATE OF state, held ON deliveries
  WHEN OLD.state <> NEW.state OR OLD.held <> NEW.held BEGIN
  UPDATE counts SET count = count - 1
    WHERE name = 'delivery/' || iif(OLD.held, 'held', OLD.state);
  INSERT INTO counts VALUES ('delivery/' || iif(NEW.held, 'held', NEW.state), 1)
    ON CONFLICT (name) DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER IF NOT EXISTS registers_counted AFTER INSERT ON registers BEGIN
  INSERT INTO counts VALUES ('client/' || NEW.standing, 1)
    ON CONFLICT (name) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER IF NOT EXISTS registers_uncounted AFTER DELETE ON registers BEGIN
  UPDATE counts SET count = count - 1 WHERE name = 'client/' || OLD.standing;
END;
CREATE TRIGGER IF NOT EXISTS registers_recounted AFTER UPDATE OF standing ON registers
  WHEN OLD.standing <> NEW.standing BEGIN
  UPDATE counts SET count = count - 1 WHERE name = 'client/' || OLD.standing;
  INSERT INTO counts VALUES ('client/' || NEW.standing, 1)
    ON CONFLICT (name) DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER IF NOT EXISTS waiting_counted AFTER INSERT ON waiting
  WHEN NOT EXISTS (SELECT 1 FROM waiting WHERE user = NEW.user AND client_id = NEW.client_id
                   AND subject <> NEW.subject) BEGIN
  INSERT INTO counts VALUES ('client/waiting', 1)
    ON CONFLICT (name) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER IF NOT EXISTS waiting_uncounted AFTER DELETE ON waiting
  WHEN NOT EXISTS (SELECT 1 FROM waiting WHERE user = OLD.user AND client_id = OLD.client_id) BEGIN
  UPDATE counts SET count = count - 1 WHERE name = 'client/waiting';
END;
