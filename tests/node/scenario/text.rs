//! Texts that a scenario is made of: names filled in, encodings, dates, signatures.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use crate::scenario::player::Names;

/// Replaces `{name}` in every text of `value`; unknown names stay. Inside `$re` the values are escaped.
pub fn fill(value: &Value, names: &Names) -> Value {
    fill_in(value, names, false)
}

fn fill_in(value: &Value, names: &Names, escape: bool) -> Value {
    match value {
        Value::String(text) => Value::String(fill_text(text, names, escape)),
        Value::Array(items) => items.iter().map(|item| fill_in(item, names, escape)).collect(),
        Value::Object(members) => {
            let one = |(key, item): (&String, &Value)| {
                (fill_text(key, names, false), fill_in(item, names, escape || key == "$re"))
            };
            Value::Object(members.iter().map(one).collect())
        }
        other => other.clone(),
    }
}

fn fill_text(text: &str, names: &Names, escape: bool) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        filled += &rest[..start];
        rest = &rest[start..];
        let known = rest.find('}').and_then(|end| Some((end, names.get(&rest[1..end])?)));
        let Some((end, value)) = known else {
            filled.push('{');
            rest = &rest[1..];
            continue;
        };
        filled += &if escape { regex::escape(value) } else { value.clone() };
        rest = &rest[end + 1..];
    }
    filled + rest
}

/// Percent-encodes all but letters, digits, `_.-~` and what `safe` holds.
pub fn quote(text: &str, safe: &str) -> String {
    let mut quoted = String::new();
    for &byte in text.as_bytes() {
        let kept = byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) || safe.as_bytes().contains(&byte);
        if kept {
            quoted.push(char::from(byte));
        } else {
            quoted += &format!("%{byte:02X}");
        }
    }
    quoted
}

/// JSON with a blank after each comma and colon, as the recordings were sent.
pub fn json_text(value: &Value) -> String {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)).expect("a value is JSON");
    String::from_utf8(text).expect("JSON is UTF-8")
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `Tue, 24 Nov 2026 11:00:00 GMT`.
pub fn http_date(now_s: u64) -> String {
    let time = jiff::Timestamp::from_second(now_s as i64).expect("a time of today");
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// An Authorization value in the scheme of the hmac-auth plugin.
pub fn sign(how: &Value, method: &str, path: &str, headers: &[(String, String)], authority: &str) -> String {
    let signed: Vec<&str> = how["signed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let value = |name: &str| {
        let given = headers.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
        given.map(|(_, value)| value.as_str()).unwrap_or(if name == "host" { authority } else { "" })
    };
    let line = |name: &&str| match *name {
        "request-line" => format!("{method} {path} HTTP/1.1"),
        name => format!("{name}: {}", value(name)),
    };
    let text = signed.iter().map(line).collect::<Vec<_>>().join("\n");
    let algorithm = how["algorithm"].as_str().unwrap_or("hmac-sha256");
    let key = hmac::Key::new(hmac_algorithm(algorithm), how["secret"].as_str().unwrap_or_default().as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    format!(
        "hmac username=\"{}\", algorithm=\"{algorithm}\", headers=\"{}\", signature=\"{signature}\"",
        how["username"].as_str().unwrap_or_default(),
        signed.join(" ")
    )
}

fn hmac_algorithm(name: &str) -> hmac::Algorithm {
    match name {
        "hmac-sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "hmac-sha384" => hmac::HMAC_SHA384,
        "hmac-sha512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

#[test]
fn texts_are_made_as_the_recordings_were() {
    let names = Names::from([("a".to_owned(), "1.2".to_owned())]);
    let filled = fill(&serde_json::json!({"{a}": ["{a}{b}{32}", {"$re": "^{a}$"}]}), &names);
    assert_eq!(filled, serde_json::json!({"1.2": ["1.2{b}{32}", {"$re": "^1\\.2$"}]}));
    assert_eq!(quote("a b[é]~", "[]"), "a%20b[%C3%A9]~");
    assert_eq!(json_text(&serde_json::json!({"a": [1, "x"], "b": {}})), r#"{"a": [1, "x"], "b": {}}"#);
    assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
}
