-- Entities, what keeps them unique and bound together, and their history.

-- The point in history. Every writing transaction locks this row first, so numbers have no gaps and are in the order
-- of commits. The epoch grows when a node finds that history went backwards (a restored backup).
CREATE TABLE revision (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL,
    number bigint NOT NULL
);
INSERT INTO revision (epoch, number) VALUES (1, 0);

CREATE TABLE entities (
    kind text NOT NULL,
    id uuid NOT NULL,
    doc jsonb NOT NULL CHECK (coalesce((doc ->> 'id')::uuid = id, false)),
    -- Changed in SQL: keys and references are brought up to date by the next writer.
    by_hand boolean NOT NULL DEFAULT false,
    PRIMARY KEY (kind, id)
);
CREATE INDEX entities_by_hand ON entities (kind, id) WHERE by_hand;

-- One row per unique key of an entity: (kind, key) names it.
CREATE TABLE entity_keys (
    kind text NOT NULL,
    key text NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (kind, key),
    FOREIGN KEY (kind, id) REFERENCES entities ON DELETE CASCADE
);
CREATE INDEX entity_keys_of ON entity_keys (kind, id);

-- One row per foreign key of an entity. What has to go along is deleted before or with the referenced entity; a
-- reference that would dangle at the end of a transaction refuses it.
CREATE TABLE entity_refs (
    kind text NOT NULL,
    id uuid NOT NULL,
    field text NOT NULL,
    ref_kind text NOT NULL,
    ref_id uuid NOT NULL,
    on_delete text NOT NULL CHECK (on_delete IN ('cascade', 'restrict')),
    PRIMARY KEY (kind, id, field),
    FOREIGN KEY (kind, id) REFERENCES entities ON DELETE CASCADE,
    FOREIGN KEY (ref_kind, ref_id) REFERENCES entities DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX entity_refs_to ON entity_refs (ref_kind, ref_id);

-- The log: what each revision changed, bounded to the newest changes. A null doc is an end.
CREATE TABLE changes (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number bigint NOT NULL,
    kind text NOT NULL,
    id uuid NOT NULL,
    doc jsonb
);
CREATE INDEX changes_of ON changes (number, ordinal);
