//! Keys in each place, and what becomes of request and client.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::plugin::Scope;
use crate::plugin::testing::{NOW_S, Stage, build, directory, principal, told};

/// Ann holds `key`, Bob holds `old`, which is over, and `anon` stands in for strangers.
fn stage(target: &str) -> Stage {
    let ann = principal(10, Some("ann"), Some("custom-ann"));
    let bob = principal(11, Some("bob"), None);
    let anon = principal(12, Some("anon"), None);
    let now_s = i64::try_from(NOW_S).unwrap();
    let keys = directory(&[(&ann, "key", Some(now_s + 1)), (&bob, "old", Some(now_s)), (&anon, "a", None)]);
    Stage::get(target).with_directory(&keys)
}

fn play(stage: &mut Stage, config: Value) -> (String, Option<String>, Option<Bytes>) {
    let plugin = build("key-auth", config, Scope::default()).unwrap();
    let mut exchange = stage.exchange();
    let step = plugin.access(&mut exchange);
    (told(&step), stage.upward.query.take(), stage.upward.body.take())
}

#[test]
fn the_first_key_found_decides() {
    let check = |config: Value, stage: Stage, expected: &str| {
        let mut stage = stage;
        let (found, ..) = play(&mut stage, config.clone());
        assert_eq!(found, expected, "{config} {:?} {:?}", stage.request.target, stage.request.headers);
    };
    let (none, twice, unknown) = ("401 No API key found in request", "401 Duplicate API key found", "401 Unauthorized");
    check(json!({}), stage("/"), none);
    check(json!({}), stage("/").with_header("apikey", ""), none);
    check(json!({}), stage("/?apikey="), none);
    check(json!({}), stage("/?apikey"), none);
    check(json!({}), stage("/").with_header("apikey", "").with_header("x", "y"), none);
    check(json!({}), stage("/?apikey=key").with_header("apikey", ""), none);
    check(json!({}), stage("/?apikey=nope"), unknown);
    check(json!({}), stage("/?apikey=%ff"), unknown);
    check(json!({}), stage("/?apikey=old"), unknown);
    check(json!({}), stage("/").with_header("apikey", "nope"), unknown);
    check(json!({}), stage("/?apikey=key").with_header("apikey", "nope"), unknown);
    check(json!({}), stage("/?apikey=key&apikey=key"), twice);
    check(json!({}), stage("/").with_header("apikey", "key").with_header("apikey", "key"), twice);
    check(json!({}), stage("/?apikey=key"), "continue");
    check(json!({}), stage("/?apikey=%6bey"), "continue");
    check(json!({}), stage("/").with_header("apikey", "key"), "continue");
    check(json!({"key_in_header": false}), stage("/").with_header("apikey", "key"), none);
    check(json!({"key_in_header": false}), stage("/?apikey=key").with_header("apikey", "nope"), "continue");
    check(json!({"key_in_query": false}), stage("/?apikey=key"), none);
    let names = json!({"key_names": ["X-Api-Key", "token"]});
    check(names.clone(), stage("/").with_header("apikey", "key"), none);
    check(names.clone(), stage("/?token=key"), "continue");
    check(names.clone(), stage("/?X-Api-Key&token=key"), "continue");
    check(names, stage("/").with_header("x-api-key", "bad").with_header("token", "key"), unknown);
    check(json!({"key_names": ["api_key"]}), stage("/").with_header("api-key", "key"), "continue");
}

#[test]
fn bodies_are_searched_when_told_so() {
    let check = |content_type: &str, body: &str, expected: &str| {
        let mut stage = stage("/").with_body(content_type, body);
        assert_eq!(play(&mut stage, json!({"key_in_body": true})).0, expected, "{body}");
        assert_eq!(play(&mut stage, json!({})).0, "401 No API key found in request", "{body}");
    };
    let none = "401 No API key found in request";
    check("application/x-www-form-urlencoded", "apikey=key&x=1", "continue");
    check("application/x-www-form-urlencoded", "apikey=key&apikey=1", "401 Duplicate API key found");
    check("application/json", r#"{"apikey":"key","n":1}"#, "continue");
    check("application/json", r#"{"apikey":["key"]}"#, "401 Duplicate API key found");
    check("application/json", r#"{"apikey":1}"#, none);
    check("application/json", "{broken", none);
    check("text/plain", "apikey=key", none);
}

#[test]
fn the_upstream_learns_who_it_is_and_no_forgery_passes() {
    let mut stage = stage("/")
        .with_header("apikey", "key")
        .with_header("x-consumer-username", "root")
        .with_header("x-consumer-username", "root")
        .with_header("x-anonymous-consumer", "true")
        .with_header("x-credential-identifier", "forged");
    play(&mut stage, json!({}));
    assert_eq!(stage.header("x-consumer-id").as_deref(), Some("00000000-0000-0000-0000-00000000000a"));
    assert_eq!(stage.header("x-consumer-custom-id").as_deref(), Some("custom-ann"));
    assert_eq!(stage.header("x-credential-identifier").as_deref(), Some("00000000-0000-0000-0000-000000000064"));
    assert_eq!(stage.header("x-anonymous-consumer").as_deref(), None);
    assert_eq!(stage.header_values("x-consumer-username"), ["ann"]);
}

#[test]
fn hidden_keys_are_gone_wherever_they_were() {
    let check = |target: &str, header: bool, expected: Option<&str>| {
        let mut stage = stage(target);
        if header {
            stage = stage.with_header("apikey", "key");
        }
        let (found, query, _) = play(&mut stage, json!({"hide_credentials": true}));
        assert_eq!(found, "continue", "{target}");
        assert_eq!(query.as_deref(), expected, "{target}");
        assert_eq!(stage.header("apikey").as_deref(), None, "{target}");
    };
    check("/", true, None);
    check("/?a=%20b&apikey=key&c", false, Some("a=+b&c="));
    check("/?a=%20b&apikey=other&c", true, Some("a=+b&c="));
    check("/?apikey=key", false, Some(""));
    check("/?x", true, Some("x="));

    let mut stage = stage("/").with_body("application/json", r#"{"n":1,"apikey":"key"}"#);
    let (found, _, body) = play(&mut stage, json!({"hide_credentials": true, "key_in_body": true}));
    assert_eq!((found.as_str(), body), ("continue", Some(r#"{"n":1}"#.into())));
}

#[test]
fn the_anonymous_consumer_stands_in_for_every_failure() {
    for anonymous in ["anon", "00000000-0000-0000-0000-00000000000c"] {
        for target in ["/", "/?apikey=nope", "/?apikey=key&apikey=key"] {
            let mut stage = stage(target).with_header("x-credential-identifier", "forged");
            assert_eq!(play(&mut stage, json!({"anonymous": anonymous})).0, "continue", "{target}");
            assert_eq!(stage.header("x-anonymous-consumer").as_deref(), Some("true"));
            assert_eq!(stage.header("x-consumer-username").as_deref(), Some("anon"));
            assert_eq!(stage.header("x-consumer-custom-id").as_deref(), None);
            assert_eq!(stage.header("x-credential-identifier").as_deref(), None);
        }
    }
    assert_eq!(play(&mut stage("/"), json!({"anonymous": "custom-ann"})).0, "fail");
    assert_eq!(play(&mut stage("/?apikey=key"), json!({"anonymous": "nobody"})).0, "continue");
}

/// Another authentication plugin ran before and found (or did not find) a credential.
#[test]
fn alternatives_skip_once_a_credential_is_found_and_others_do_not() {
    let check = |config: Value, found_before: bool, expected: &str, expected_consumer: &str| {
        let mut stage = stage("/");
        let keys = Arc::clone(&stage.directory);
        let plugin = build("key-auth", config.clone(), Scope::default()).unwrap();
        let mut exchange = stage.exchange();
        exchange.consumer = keys.consumer("bob");
        exchange.credential = found_before.then_some(crate::plugin::directory::CredentialRef { id: uuid::Uuid::nil() });
        let step = plugin.access(&mut exchange);
        assert_eq!(told(&step), expected, "{config} {found_before}");
        assert_eq!(exchange.consumer.unwrap().username.as_deref(), Some(expected_consumer), "{config} {found_before}");
    };
    check(json!({"anonymous": "anon"}), true, "continue", "bob");
    check(json!({"anonymous": "anon"}), false, "continue", "anon");
    check(json!({}), true, "401 No API key found in request", "bob");
}

#[test]
fn preflights_can_pass() {
    let mut stage = stage("/");
    stage.request.method = Method::OPTIONS;
    assert_eq!(play(&mut stage, json!({"run_on_preflight": false})).0, "continue");
    assert_eq!(play(&mut stage, json!({})).0, "401 No API key found in request");
}

#[test]
fn the_challenge_names_the_realm() {
    let check = |config: Value, expected: &str| {
        let plugin = build("key-auth", config, Scope::default()).unwrap();
        let mut stage = stage("/");
        let Step::Respond(Answer::Error { headers, .. }) = plugin.access(&mut stage.exchange()) else { panic!() };
        assert_eq!(headers, [(header::WWW_AUTHENTICATE, HeaderValue::from_str(expected).unwrap())]);
    };
    check(json!({}), "Key");
    check(json!({"realm": "my api"}), "Key realm=\"my api\"");
}

#[test]
fn a_config_that_cannot_run_is_refused() {
    assert!(build("key-auth", json!({"key_names": ["not ok"]}), Scope::default()).is_err());
    assert!(build("key-auth", json!({"realm": "a\nb"}), Scope::default()).is_err());
    assert!(build("key-auth", json!({"hide_credentials": null}), Scope::default()).is_err());
}
