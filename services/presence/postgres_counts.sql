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
