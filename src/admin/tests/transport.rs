//! What holds for every answer: headers, unknown paths and methods, media types, tokens.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::admin::tests::{Node, request};

#[tokio::test]
async fn every_answer_carries_the_headers_of_the_admin_api() {
    let node = Node::new();
    for line in ["GET /services", "GET /nowhere", "OPTIONS /services", "PUT /services", "DELETE /services/x"] {
        let answer = node.ask(line, Value::Null).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{line}");
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{line}");
        assert_eq!(answer.header("server"), Some(concat!("tidegate/", env!("CARGO_PKG_VERSION"))), "{line}");
        assert!(answer.header("x-kong-admin-latency").is_some_and(|text| text.parse::<u64>().is_ok()), "{line}");
        assert_eq!(answer.header("access-control-allow-methods").is_some(), line.starts_with("OPTIONS"), "{line}");
        assert_eq!(answer.header("content-length").is_some(), answer.status != 204, "{line}");
    }
    let answer = node.ask("GET /services", Value::Null).await;
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let asked = request("GET /services").header("origin", "http://o.test").body(Bytes::new()).unwrap();
    assert_eq!(node.send(asked).await.header("access-control-allow-origin"), Some("http://o.test"));
}

#[tokio::test]
async fn headers_can_be_switched_off() {
    let node = Node::with(false, |options| (options.server_header, options.latency_header) = (false, false));
    let answer = node.ask("GET /services", Value::Null).await;
    assert_eq!((answer.header("server"), answer.header("x-kong-admin-latency")), (None, None));
}

#[tokio::test]
async fn paths_and_methods_are_known_or_not() {
    let node = Node::new();
    let not_found = json!({ "message": "Not found" });
    let not_allowed = json!({ "message": "Method not allowed" });
    for (line, status, expected) in [
        ("GET /nowhere", 404, &not_found),
        ("OPTIONS /nowhere", 404, &not_found),
        ("GEEEET /nowhere", 404, &not_found),
        ("DELETE /nowhere/a", 404, &not_found),
        ("GET /services/a/b/c/d", 404, &not_found),
        ("GET /services/a/colours", 404, &not_found),
        ("GET //services", 404, &not_found),
        ("GET /%73ervices", 404, &not_found),
        ("GET /Services", 404, &not_found),
        ("GET /services//routes", 404, &not_found),
        ("GET /workspaces", 404, &not_found),
        ("PUT /services", 405, &not_allowed),
        ("DELETE /services", 405, &not_allowed),
        ("PURGE /services", 405, &not_allowed),
        ("GEEEET /status", 405, &not_allowed),
        ("POST /services/x", 405, &not_allowed),
        ("PATCH /services/x/routes", 405, &not_allowed),
        ("POST /status", 405, &not_allowed),
        ("GET /debug/node/log-level/debug", 405, &not_allowed),
        ("PUT /tags/x", 405, &not_allowed),
    ] {
        let answer = node.ask(line, Value::Null).await;
        assert_eq!((answer.status, &answer.json()), (status, expected), "{line}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_changes_nothing() {
    let node = Node::new();
    node.made("/services/", json!({ "name": "s", "host": "a.test" })).await;
    node.ask("GET /services/s/", Value::Null).await.check(200, json!({ "name": "s" }));
    node.ask("GET /services/?size=1", Value::Null).await.check(200, json!({ "next": null }));
}

#[tokio::test]
async fn options_lists_the_methods_of_a_path() {
    let node = Node::new();
    for (path, methods) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/routes", "GET, HEAD, OPTIONS, POST"),
        ("/routes/x", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/services/x/routes", "GET, HEAD, OPTIONS, POST"),
        ("/routes/x/service", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ] {
        let answer = node.ask(&format!("OPTIONS {path}"), Value::Null).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
        assert_eq!(answer.header("allow"), Some(methods), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), Some(methods), "{path}");
        assert_eq!(answer.header("access-control-allow-headers"), Some("Content-Type"), "{path}");
    }
    let asked = request("OPTIONS /").header("access-control-request-headers", "X-A").body(Bytes::new()).unwrap();
    assert_eq!(node.send(asked).await.header("access-control-allow-headers"), Some("X-A"));
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let node = Node::new();
    for (path, status) in [("/services", 200), ("/services/x", 404), ("/nowhere", 404), ("/", 200)] {
        let get = node.ask(&format!("GET {path}"), Value::Null).await;
        let head = node.ask(&format!("HEAD {path}"), Value::Null).await;
        assert_eq!((get.status, head.status, head.body.len()), (status, status, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}

#[tokio::test]
async fn other_media_types_are_refused_before_anything_else() {
    let node = Node::new();
    for (line, media, body, status) in [
        ("POST /services", Some("application/xml"), "<a/>", 415),
        ("POST /nowhere", Some("text/plain"), "x", 415),
        ("PUT /services", Some("image/png"), "x", 415),
        ("POST /services", None, "{}", 415),
        ("POST /services", Some("application/yaml"), "host: a", 415),
        ("POST /services", Some("APPLICATION/JSON"), "{}", 415),
        ("GET /services", Some("text/plain"), "{bad", 200),
        ("DELETE /services/x", Some("text/plain"), "junk", 204),
        ("POST /services", None, "", 400),
    ] {
        let mut asked = request(line);
        if let Some(media) = media {
            asked = asked.header("content-type", media);
        }
        let answer = node.send(asked.body(Bytes::from(body)).unwrap()).await;
        assert_eq!(answer.status, status, "{line} {media:?}");
        assert_eq!(answer.header("content-type") == Some("text/html; charset=UTF-8"), status == 415, "{line}");
    }
}

#[tokio::test]
async fn a_body_is_an_object_or_refused() {
    let node = Node::new();
    for body in ["", "{\"name\": ", "null", "5", "[1]"] {
        let asked = request("POST /services").header("content-type", "application/json").body(Bytes::from(body));
        let refused = json!({ "message": "Cannot parse JSON body" });
        node.send(asked.unwrap()).await.check(400, refused);
    }
    let required = json!({ "code": 2, "fields": { "host": "required field missing" } });
    node.ask("POST /services", json!([])).await.check(400, required.clone());
    node.form("POST /services", "").await.check(400, required);
}

#[tokio::test]
async fn a_thousand_arguments_are_enough_anywhere() {
    let node = Node::new();
    let many = vec!["a=1"; 1001].join("&");
    let too_many = json!({ "message": "Too many arguments" });
    node.ask(&format!("GET /services?{many}"), Value::Null).await.check(400, too_many.clone());
    let media = "application/x-www-form-urlencoded";
    let asked = request("POST /services").header("content-type", media).body(Bytes::from(many));
    node.send(asked.unwrap()).await.check(400, too_many);
}

#[tokio::test]
async fn robots_are_kept_out() {
    let answer = Node::new().ask("GET /robots.txt", Value::Null).await;
    assert_eq!((answer.status, answer.body.as_ref()), (200, &b"User-agent: *\nDisallow: /"[..]));
}

#[tokio::test]
async fn tokens_open_the_api() {
    let node = Node::with(false, |options| {
        options.token = Some("full".to_owned());
        options.token_readonly = Some("look".to_owned());
    });
    let ask = async |line: &str, token: &str| {
        let asked = request(line).header("kong-admin-token", token).body(Bytes::new()).unwrap();
        node.send(asked).await
    };
    assert_eq!(node.ask("GET /nowhere", Value::Null).await.status, 401);
    assert_eq!(ask("GET /services", "wrong").await.status, 401);
    assert_eq!(ask("GET /services", "look").await.status, 200);
    ask("DELETE /services/x", "look").await.check(403, json!({ "message": "the token may only read" }));
    assert_eq!(ask("DELETE /services/x", "full").await.status, 204);
}
