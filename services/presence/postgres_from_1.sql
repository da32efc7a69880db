-- From version 1 of the schema to version 2: terms and partitions instead of one owner of all. What
-- is in the tables stays; to which partition a row belongs is found out by the first term.

CREATE TABLE terms (
  id bigint PRIMARY KEY, name text NOT NULL, slot bigint NOT NULL, closed bigint NOT NULL
) WITH (fillfactor = 20);
-- Whoever owned all of it: what it left to send has no keeper but this one.
INSERT INTO terms VALUES (0, '', 0, 1);
CREATE TABLE partitions (
  partition bigint PRIMARY KEY, epoch bigint NOT NULL, term bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO meta VALUES ('unplaced', '1');

ALTER TABLE registers ADD COLUMN partition bigint NOT NULL DEFAULT -1;
ALTER TABLE fanouts ADD COLUMN partition bigint NOT NULL DEFAULT -1;
ALTER TABLE handovers ADD COLUMN partition bigint NOT NULL DEFAULT -1;

ALTER TABLE deliveries ADD COLUMN keeper bigint NOT NULL DEFAULT 0;
DROP INDEX deliveries_due, deliveries_expiring, deliveries_sending;
CREATE INDEX deliveries_due ON deliveries (keeper, scheme, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_expiring ON deliveries (keeper, expires_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_sending ON deliveries (keeper) WHERE state = 'sending';

ALTER TABLE counts ADD COLUMN slot bigint NOT NULL DEFAULT 0;
ALTER TABLE counts DROP CONSTRAINT counts_pkey, ADD PRIMARY KEY (name, slot);
