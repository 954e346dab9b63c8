//! Consumers.

use crate::entity::write::tests::*;

#[test]
fn one_of_two_names_is_needed() {
    let text = "at least one of these fields must be non-empty: 'custom_id', 'username'";
    for input in [json!({}), json!({"username": null})] {
        refused(Kind::CONSUMERS, input, &format!("schema violation ({text})"), json!({"@entity": [text]}));
    }
    accepted(Kind::CONSUMERS, json!({"username": "o'neil @ 日本"}), json!({"custom_id": null, "tags": null}));
    wrong(Kind::CONSUMERS, json!({"username": "a\0b"}), "username", json!("expected a string without null characters"));
    let stored = insert(Kind::CONSUMERS, json!({"username": "bob"})).unwrap();
    let rejection = update(Kind::CONSUMERS, &stored, json!({"username": null})).unwrap_err();
    assert_eq!(rejection.message(), format!("schema violation (when updating, {text})"));
}
