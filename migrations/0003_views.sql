-- A view per kind, for people with psql. Where the name is taken (Kong's own tables in the same schema), the view is
-- called tidegate_KIND instead.

DO $$
DECLARE
    columns constant jsonb := '{
        "services": ["name", "protocol", "host", "port", "path", "enabled", "tags"],
        "routes": ["name", "protocols", "methods", "hosts", "paths", "headers", "snis", "strip_path", "service", "tags"],
        "consumers": ["username", "custom_id", "tags"],
        "plugins": ["name", "instance_name", "enabled", "service", "route", "consumer", "config", "tags"],
        "keyauth_credentials": ["key", "consumer", "tags"]
    }';
    lists constant text[] := '{protocols,methods,hosts,paths,headers,snis,config,tags}';
    kind text;
    members jsonb;
    list text;
BEGIN
    FOR kind, members IN SELECT * FROM jsonb_each(columns) LOOP
        SELECT string_agg(
            CASE
                WHEN name IN ('service', 'route', 'consumer') THEN format('(doc -> %L ->> ''id'')::uuid AS %I', name, name || '_id')
                WHEN name = ANY (lists) THEN format('doc -> %L AS %I', name, name)
                ELSE format('doc ->> %L AS %I', name, name)
            END, ', ' ORDER BY place)
        INTO list
        FROM jsonb_array_elements_text(members) WITH ORDINALITY AS member (name, place);
        EXECUTE format(
            'CREATE VIEW %I AS SELECT id, %s, to_timestamp((doc ->> ''created_at'')::double precision) AS created_at, doc
             FROM entities WHERE kind = %L',
            CASE WHEN to_regclass(quote_ident(current_schema()) || '.' || quote_ident(kind)) IS NULL THEN kind ELSE 'tidegate_' || kind END,
            list, kind);
    END LOOP;
END
$$;
