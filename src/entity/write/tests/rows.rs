//! Rules that look at other rows.

use crate::entity::write::tests::*;

/// Everything `made`, in one catalog.
fn catalog(made: &[(Kind, Value)]) -> Catalog {
    let entities = made.iter().map(|(kind, input)| {
        let doc = insert(*kind, input.clone()).unwrap();
        std::sync::Arc::new(crate::entity::Entity::from_doc(*kind, &doc).unwrap())
    });
    Catalog::of(entities, tidegate_proto::Revision::default())
}

fn write(catalog: &Catalog, kind: Kind, input: Value, intent: Intent<'_>) -> Result<Doc, Rejection> {
    prepare(kind, doc(input), intent, &Draft::new(catalog, NOW), &plugins(), NOW).map(|checked| checked.doc())
}

#[test]
fn foreign_keys_are_found_by_any_unique_field() {
    let catalog = catalog(&[
        (Kind::SERVICES, json!({"id": ID, "name": "s", "host": "a"})),
        (Kind::CONSUMERS, json!({"id": ID, "username": "bob", "custom_id": "c"})),
    ]);
    let route = write(&catalog, Kind::ROUTES, json!({"paths": ["/"], "service": {"name": "s"}}), Intent::Insert);
    assert_eq!(route.unwrap()["service"], json!({"id": ID}));
    for consumer in [json!({"username": "bob"}), json!({"custom_id": "c"}), json!({"username": "no", "custom_id": "c"})]
    {
        let key = write(&catalog, Kind::KEYAUTH_CREDENTIALS, json!({"consumer": consumer}), Intent::Insert);
        assert_eq!(key.unwrap()["consumer"], json!({"id": ID}));
    }
}

#[test]
fn a_name_that_finds_nothing_is_told_before_the_schema() {
    let catalog = catalog(&[]);
    let route = json!({"paths": ["bad"], "service": {"name": "no"}});
    let rejection = write(&catalog, Kind::ROUTES, route, Intent::Insert).unwrap_err();
    assert_eq!(
        rejection.message(),
        "foreign key unresolved (service.name: the foreign key cannot be resolved with '{name=\"no\"}' for an existing 'services' entity)"
    );
    let plugin = json!({"name": "none", "service": {"name": "a"}, "route": {"name": "b"}});
    let rejection = write(&catalog, Kind::PLUGINS, plugin, Intent::Insert).unwrap_err();
    assert!(rejection.message().starts_with("2 foreign keys unresolved (route.name: "), "{}", rejection.message());
    let shorthand = json!({"url": "", "client_certificate": {"name": "x"}});
    let rejection = write(&catalog, Kind::SERVICES, shorthand, Intent::Insert).unwrap_err();
    assert_eq!(rejection.message(), "schema violation (url: length must be at least 1)");
    let unusable = json!({"paths": ["/"], "service": {"name": "a b"}});
    let rejection = write(&catalog, Kind::ROUTES, unusable, Intent::Insert).unwrap_err();
    assert_eq!(rejection.code(), 2);
}

#[test]
fn the_protocols_of_a_plugin_meet_those_of_its_route() {
    let other = "11111111-89ab-4cde-8f01-23456789abcd";
    let catalog = catalog(&[
        (Kind::SERVICES, json!({"id": ID, "name": "s", "host": "a"})),
        (Kind::SERVICES, json!({"id": other, "name": "empty", "host": "a"})),
        (Kind::ROUTES, json!({"id": ID, "name": "tcp", "protocols": ["tcp"], "sources": [{"port": 1}]})),
        (Kind::ROUTES, json!({"paths": ["/"], "protocols": ["https"], "service": {"id": ID}})),
    ]);
    let route = "must match the associated route's protocols";
    let service = "must match the protocols of at least one route pointing to this Plugin's service";
    let rows = [
        (json!({"route": {"id": ID}, "protocols": ["http"]}), Some(route)),
        (json!({"route": {"name": "tcp"}, "protocols": ["http"]}), Some(route)),
        (json!({"route": {"id": ID}}), None),
        (json!({"service": {"id": ID}, "protocols": ["http"]}), Some(service)),
        (json!({"service": {"name": "s"}, "protocols": ["https"]}), None),
        (json!({"service": {"id": other}, "protocols": ["http"]}), None),
        (json!({"protocols": ["http"]}), None),
    ];
    for (mut input, expected) in rows {
        input["name"] = "keys".into();
        let said = write(&catalog, Kind::PLUGINS, input.clone(), Intent::Insert).err();
        let expected = expected.map(|text| format!("schema violation (protocols: {text})"));
        assert_eq!(said.map(|rejection| rejection.message()), expected, "{input}");
    }
    let stored = insert(Kind::PLUGINS, json!({"name": "keys", "protocols": ["http"]})).unwrap();
    let moved = |input: Value| write(&catalog, Kind::PLUGINS, input, Intent::Update { stored: &stored });
    assert!(moved(json!({"enabled": false})).is_ok());
    assert_eq!(
        moved(json!({"route": {"id": ID}})).unwrap_err().message(),
        format!("schema violation (protocols: {route})")
    );
}
