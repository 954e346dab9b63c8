//! Whatever comes, nothing panics, and what was accepted is accepted again.

use proptest::prelude::*;

use crate::entity::write::tests::*;

/// Any JSON whose names are often names of fields.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/.:*%~(\\[]{0,6}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from(ID)),
        Just(Value::from("limits")),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6).prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = Kind::all()
        .iter()
        .flat_map(|kind| kind.declaration().fields.iter().map(|field| field.name))
        .chain(["url", "ttl", "redis", "redis_host", "redis_port", "minute", "key_names", "ip"])
        .collect();
    prop_oneof![4 => prop::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::all().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_document_is_too_strange(
        kind in kind(),
        members in prop::collection::vec((name(), json_value()), 0..8),
        plugin in prop::option::of(Just("limits")),
    ) {
        let mut input: Doc = members.into_iter().collect();
        if let Some(plugin) = plugin {
            input.insert("name".to_owned(), plugin.into());
        }
        match prepare_alone(kind, input.clone(), Intent::Insert, &plugins(), NOW) {
            Ok(checked) => {
                let stored = checked.doc();
                let again = update(kind, &stored, json!({})).expect("what was accepted is accepted again");
                prop_assert_eq!(again.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>());
                present(kind, stored.clone(), &plugins(), NOW);
                // Whatever is laid over it is refused or accepted, never fatal.
                let _ = prepare_alone(kind, input, Intent::Update { stored: &stored }, &plugins(), NOW);
            }
            Err(rejection) => prop_assert!(!rejection.body().is_empty()),
        }
    }
}
