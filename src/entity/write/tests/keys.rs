//! Keys and their time to live.

use crate::entity::write::tests::*;

const KEYS: Kind = Kind::KEYAUTH_CREDENTIALS;

fn key(input: Value) -> Value {
    let mut input = doc(input);
    input.insert("consumer".to_owned(), json!({"id": ID}));
    Value::Object(input)
}

#[test]
fn a_key_is_made_when_none_is_sent() {
    let made = [json!({}), json!({"key": null})].map(|input| insert(KEYS, key(input)).unwrap());
    for stored in &made {
        let text = stored["key"].as_str().unwrap();
        assert!(text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
        assert!(!stored.contains_key("updated_at"));
    }
    assert_ne!(made[0]["key"], made[1]["key"]);
}

#[test]
fn wrong_keys() {
    refused(
        KEYS,
        json!({"key": "k"}),
        "schema violation (consumer: required field missing)",
        json!({"consumer": "required field missing"}),
    );
    wrong(KEYS, key(json!({"key": 5})), "key", json!("expected a string"));
    refused(
        KEYS,
        key(json!({"key": "", "colour": 1})),
        "2 schema violations (colour: unknown field; key: length must be at least 1)",
        json!({"colour": "unknown field", "key": "length must be at least 1"}),
    );
}

#[test]
fn a_time_to_live_counts_down_and_ends() {
    let stored = insert(KEYS, key(json!({"ttl": 100, "key": "k"}))).unwrap();
    assert_eq!(stored["expires_at"], json!(NOW + 100));
    let shown = present(KEYS, stored.clone(), &plugins(), NOW + 1);
    assert_eq!((shown.get("ttl"), shown.get("expires_at")), (Some(&json!(99)), None));
    assert!(!expired(KEYS, &stored, NOW + 99));
    assert!(expired(KEYS, &stored, NOW + 100));

    let renamed = update(KEYS, &stored, json!({"key": "n"})).unwrap();
    assert_eq!(renamed["expires_at"], json!(NOW + 100));
    let longer = update(KEYS, &stored, json!({"ttl": 200})).unwrap();
    assert_eq!(longer["expires_at"], json!(NOW + 5 + 200));
    for never in [json!({"ttl": 0}), json!({"ttl": null})] {
        let kept = update(KEYS, &stored, never).unwrap();
        assert_eq!(present(KEYS, kept, &plugins(), NOW)["ttl"], json!(null));
    }
    let forever = insert(KEYS, key(json!({}))).unwrap();
    assert_eq!(present(KEYS, forever.clone(), &plugins(), NOW)["ttl"], json!(null));
    assert!(!expired(KEYS, &forever, i64::MAX));
}

#[test]
fn options_are_refused_first() {
    for ttl in [json!(-1), json!(100_000_001), json!(1.5), json!("x"), json!([])] {
        let rejection = insert(KEYS, json!({"ttl": ttl, "colour": 1})).unwrap_err();
        assert_eq!(rejection.message(), "invalid option (ttl: must be an integer between 0 and 100000000)");
    }
}
