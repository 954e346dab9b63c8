//! Any request gets an answer: no path, query, header or body makes the Admin API panic or answer 500.

use bytes::Bytes;
use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use crate::admin::tests::{Answer, Node, request};

const ID: &str = "11111111-2222-4333-8444-555555555555";

/// The same few entities again and again, so that what is made up sometimes meets what is there.
fn answer(asked: &[http::Request<Bytes>]) -> Vec<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = Node::new();
        node.made("/services", json!({ "id": ID, "name": "services", "host": "a.test" })).await;
        node.made("/services/services/routes", json!({ "name": "name", "paths": ["/a"] })).await;
        node.made("/consumers", json!({ "username": "name" })).await;
        let mut answers = Vec::new();
        for request in asked {
            answers.push(node.send(request.clone()).await);
        }
        answers
    })
}

fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        "services",
        "routes",
        "consumers",
        "plugins",
        "key-auths",
        "key-auth",
        "service",
        "consumer",
        "tags",
        "schemas",
        "validate",
        "enabled",
        "schema",
        "config",
        "cache",
        "debug",
        "node",
        "log-level",
        "status",
        "name",
        "rate-limiting",
        ID,
        "%2F",
        "%00",
        "%ff",
        "a%20b",
        "%C3%BC",
    ]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "[a-z0-9%._~-]{0,12}"]
}

fn argument() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["size", "offset", "tags", "custom_id", "unit", "scale", "timeout", "x"]);
    let values = prop_oneof!["[0-9.eE+-]{0,9}", "[a-z,/%=]{0,9}", Just("WyJhIiwiYiIsImMiXQ".to_owned())];
    (names, values).prop_map(|(name, value)| format!("{name}={value}"))
}

fn body() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let forms = prop::collection::vec("[a-z.\\[\\]0-9%]{0,12}=[a-z0-9%]{0,6}", 0..6).prop_map(|pairs| pairs.join("&"));
    let fields = prop::sample::select(vec!["name", "host", "paths", "config", "service", "id", "ttl", "protocols"]);
    let values = prop::sample::select(vec!["1", "-1", "null", "\"x\"", "[]", "{}", "[null]", "1e400", "{\"id\":5}"]);
    let object = prop::collection::vec((fields, values), 0..5).prop_map(|members| {
        let members: Vec<String> = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    });
    let multipart = prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| {
        let mut body = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".to_vec();
        body.extend(bytes);
        body.extend(b"\r\n--b--\r\n");
        body
    });
    prop_oneof![
        forms.prop_map(|text| ("application/x-www-form-urlencoded", text.into_bytes())),
        object.prop_map(|text| ("application/json", text.into_bytes())),
        multipart.prop_map(|body| ("multipart/form-data; boundary=b", body)),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| ("multipart/form-data", bytes)),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| ("application/json", bytes)),
    ]
}

fn any_request() -> impl Strategy<Value = http::Request<Bytes>> {
    let method = prop::sample::select(vec!["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "BREW"]);
    let path = prop::collection::vec(word(), 0..6);
    let query = prop::collection::vec(argument(), 0..4);
    (method, path, query, body()).prop_map(|(method, path, query, (media, body))| {
        let line = format!("{method} /{}?{}", path.join("/"), query.join("&"));
        request(&line).header("content-type", HeaderValue::from_static(media)).body(Bytes::from(body)).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_request_gets_an_answer(asked in prop::collection::vec(any_request(), 1..12)) {
        for (request, answer) in asked.iter().zip(answer(&asked)) {
            let is_known = matches!(answer.status, 200 | 201 | 204 | 400 | 404 | 405 | 409 | 415 | 501);
            prop_assert!(is_known, "{request:?}\n{answer:?}");
            let is_json = answer.header("content-type") == Some("application/json; charset=utf-8");
            if answer.status >= 400 && is_json && request.method() != http::Method::HEAD {
                prop_assert!(answer.json()["message"].is_string(), "{request:?}\n{answer:?}");
            }
        }
    }
}
