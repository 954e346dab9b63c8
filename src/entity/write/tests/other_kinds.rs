//! A kind that is declared and nothing else: what the machinery gives it.

use crate::entity::declare::{Auto, Declaration, OnDelete};
use crate::entity::fields::{CREATED_AT, ID as ID_FIELD};
use crate::entity::write::tests::*;

/// A target of an upstream in short: a foreign kind that is not declared, and an address made whole.
static TARGETS: Declaration = Declaration {
    name: "targets",
    nested_path: "targets",
    endpoint_key: Some("target"),
    fields: &[
        ID_FIELD,
        CREATED_AT,
        Field::foreign("upstream", "upstreams", OnDelete::Cascade).required(),
        Field::string("target").required(),
        Field::string("secret").auto(Auto::Secret),
        Field::integer("weight").default(Literal::Int(100)).checks(&[Check::Between(0, 65535)]),
    ],
    unique_together: &["upstream", "target"],
    rewrite: Some(whole),
    ..Declaration::EMPTY
};

fn whole(sent: &mut Doc, stored: Option<&Doc>) -> Result<(), Violations> {
    let Some(Value::String(target)) = sent.get_mut("target") else { return Ok(()) };
    if stored.is_some() {
        return Err(Violations::field("target", "cannot be changed"));
    }
    if !target.contains(':') {
        target.push_str(":8000");
    }
    Ok(())
}

const KIND: Kind = Kind(&TARGETS);

#[test]
fn a_rewrite_comes_before_the_checks() {
    let stored = insert(KIND, json!({"id": ID, "target": "a.test", "upstream": {"id": ID}, "secret": "s"})).unwrap();
    let expected = json!({
        "id": ID, "created_at": NOW, "upstream": {"id": ID}, "target": "a.test:8000", "secret": "s", "weight": 100,
    });
    assert_eq!(Value::Object(stored.clone()), expected);
    wrong(KIND, json!({"target": 5, "upstream": {"id": ID}}), "target", json!("expected a string"));
    let rejection = update(KIND, &stored, json!({"target": "b.test", "weight": -1})).unwrap_err();
    assert_eq!(rejection.message(), "schema violation (target: cannot be changed)");
    assert_eq!(update(KIND, &stored, json!({"weight": 0})).unwrap()["weight"], json!(0));
}
