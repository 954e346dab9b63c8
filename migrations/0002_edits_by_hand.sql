-- Edits of entities in SQL get a revision and their place in the log, as writes of the Admin API have.
-- Tidegate's own writer says `SET LOCAL tidegate.writer = on`, keeps the log itself, and fires none of this.

-- Before any row is locked, so that an edit and a writer cannot wait for each other in a circle.
CREATE FUNCTION lock_revision() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM 1 FROM revision FOR UPDATE;
    RETURN NULL;
END
$$;

CREATE FUNCTION mark_by_hand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.by_hand := true;
    RETURN NEW;
END
$$;

-- One revision per transaction, kept in a setting that ends with it.
CREATE FUNCTION log_by_hand() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    mine text := coalesce(current_setting('tidegate.revision', true), '');
BEGIN
    IF mine = '' THEN
        UPDATE revision SET number = number + 1 RETURNING number::text INTO mine;
        PERFORM set_config('tidegate.revision', mine, true);
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.kind, OLD.id) IS DISTINCT FROM (NEW.kind, NEW.id)) THEN
        INSERT INTO changes (number, kind, id) VALUES (mine::bigint, OLD.kind, OLD.id);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO changes (number, kind, id, doc) VALUES (mine::bigint, NEW.kind, NEW.id, NEW.doc);
    END IF;
    RETURN NULL;
END
$$;

-- What goes along with a deleted entity; each is logged by the triggers here, as if it had been named.
CREATE FUNCTION cascade_by_hand() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM entities USING entity_refs
    WHERE entity_refs.ref_kind = OLD.kind AND entity_refs.ref_id = OLD.id AND entity_refs.on_delete = 'cascade'
        AND entities.kind = entity_refs.kind AND entities.id = entity_refs.id;
    RETURN NULL;
END
$$;

CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entities cannot be truncated, as that would not be logged' USING HINT = 'DELETE FROM entities';
END
$$;

CREATE TRIGGER a_lock_revision BEFORE INSERT OR UPDATE OR DELETE ON entities FOR EACH STATEMENT
    WHEN (current_setting('tidegate.writer', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION lock_revision();
CREATE TRIGGER b_mark_by_hand BEFORE INSERT OR UPDATE ON entities FOR EACH ROW
    WHEN (current_setting('tidegate.writer', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION mark_by_hand();
CREATE TRIGGER c_cascade_by_hand AFTER DELETE ON entities FOR EACH ROW
    WHEN (current_setting('tidegate.writer', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION cascade_by_hand();
CREATE TRIGGER d_log_by_hand AFTER INSERT OR UPDATE OR DELETE ON entities FOR EACH ROW
    WHEN (current_setting('tidegate.writer', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION log_by_hand();
CREATE TRIGGER e_refuse_truncate BEFORE TRUNCATE ON entities FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();
