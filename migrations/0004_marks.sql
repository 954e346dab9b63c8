-- Each revision has a mark that no other history has: a copy that was restored from a backup is recognised by its marks,
-- also when it has grown beyond the numbers that were seen before. Random marks do what a chain of hashes would, and
-- nobody has to hash alike in SQL and elsewhere.

CREATE TABLE marks (
    number bigint PRIMARY KEY,
    mark uuid NOT NULL
);
INSERT INTO marks (number, mark) SELECT number, gen_random_uuid() FROM revision;

-- For every writer alike: nodes of this version and of the one before, and people with psql. Marks are kept for as many
-- revisions as the log has changes.
CREATE FUNCTION mark_revision() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.number <> OLD.number THEN
        DELETE FROM marks WHERE number >= NEW.number OR number <= NEW.number - 100000;
        INSERT INTO marks (number, mark) VALUES (NEW.number, gen_random_uuid());
    END IF;
    -- Only wakes who waits: whoever misses it asks before long.
    PERFORM pg_notify('tidegate_revision', NEW.epoch || '.' || NEW.number);
    RETURN NULL;
END
$$;

CREATE TRIGGER mark_revision AFTER UPDATE ON revision FOR EACH ROW EXECUTE FUNCTION mark_revision();
