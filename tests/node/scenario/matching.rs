//! The matchers of the scenario format: a wanted JSON value against what was got.

use fancy_regex::Regex;
use serde_json::Value;

/// An expectation that does not hold, as a sentence.
#[derive(Debug)]
pub struct Mismatch(pub String);

pub type Outcome = Result<(), Mismatch>;

/// Matches `got` (absent: `None`) against `want`; `place` names the value in a failure.
pub fn matches(want: &Value, got: Option<&Value>, place: &str) -> Outcome {
    if let Value::Object(members) = want {
        let operators = !members.is_empty() && members.keys().all(|name| name.starts_with('$'));
        return if operators { operated(members, got, place) } else { object(members, got, place) };
    }
    let Some(got) = got else {
        return Err(Mismatch(format!("{place}: expected {}, but it is absent", shorten(want))));
    };
    if let Value::Array(items) = want {
        return array(items, got, place);
    }
    if equal(want, got) { Ok(()) } else { differs(want, got, place) }
}

fn operated(members: &serde_json::Map<String, Value>, got: Option<&Value>, place: &str) -> Outcome {
    if members.get("$absent") == Some(&Value::Bool(true)) {
        return match got {
            None => Ok(()),
            Some(got) => Err(Mismatch(format!("{place}: expected to be absent, got {}", shorten(got)))),
        };
    }
    let Some(got) = got else {
        let only_not = members.len() == 1 && members.contains_key("$not");
        let text = format!("{place}: expected {}, but it is absent", shorten(&Value::Object(members.clone())));
        return if only_not { Ok(()) } else { Err(Mismatch(text)) };
    };
    members.iter().try_for_each(|(name, want)| operator(name, want, got, place))
}

fn object(members: &serde_json::Map<String, Value>, got: Option<&Value>, place: &str) -> Outcome {
    let Some(Value::Object(got)) = got else {
        let text = got.map_or("nothing".to_owned(), shorten);
        return Err(Mismatch(format!("{place}: expected an object, got {text}")));
    };
    members.iter().try_for_each(|(key, want)| matches(want, got.get(key), &format!("{place}.{key}")))
}

fn array(items: &[Value], got: &Value, place: &str) -> Outcome {
    match got {
        Value::Array(got) if got.len() == items.len() => items
            .iter()
            .zip(got)
            .enumerate()
            .try_for_each(|(i, (want, got))| matches(want, Some(got), &format!("{place}[{i}]"))),
        _ => differs(&Value::Array(items.to_vec()), got, place),
    }
}

fn operator(name: &str, want: &Value, got: &Value, place: &str) -> Outcome {
    let holds = match name {
        "$any" => true,
        "$re" => got.as_str().is_some_and(|text| found(want, text)),
        "$type" => is_type(want.as_str().unwrap_or_default(), got),
        "$len" => length(got).is_some_and(|size| matches(want, Some(&size.into()), "length").is_ok()),
        "$has" => match (want, got) {
            (Value::Array(wanted), Value::Array(items)) => {
                wanted.iter().all(|one| items.iter().any(|item| matches(one, Some(item), "element").is_ok()))
            }
            _ => false,
        },
        "$not" => matches(want, Some(got), place).is_err(),
        "$same" => text_of(got) == text_of(want),
        "$between" => between(want, got),
        _ => return Err(Mismatch(format!("{place}: the scenario uses an unknown matcher {name}"))),
    };
    if holds {
        return Ok(());
    }
    Err(Mismatch(format!("{place}: expected {name} {}, got {}", shorten(want), shorten(got))))
}

/// Searches anywhere unless anchored; a dot matches line ends, as the scenarios' own player has it.
fn found(pattern: &Value, text: &str) -> bool {
    let pattern = format!("(?s){}", pattern.as_str().unwrap_or_default());
    match Regex::new(&pattern) {
        Ok(regex) => regex.is_match(text).unwrap_or(false),
        Err(error) => panic!("the scenario's pattern {pattern:?} does not compile: {error}"),
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "int" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "bool" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        "uuid" => value
            .as_str()
            .is_some_and(|text| text.len() == 36 && text == text.to_lowercase() && uuid::Uuid::try_parse(text).is_ok()),
        _ => panic!("the scenario names an unknown type {name:?}"),
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => Some(items.len()),
        Value::Object(members) => Some(members.len()),
        Value::String(text) => Some(text.chars().count()),
        _ => None,
    }
}

fn between(bounds: &Value, got: &Value) -> bool {
    match (bounds[0].as_f64(), bounds[1].as_f64(), got.as_f64()) {
        (Some(least), Some(most), Some(got)) => (least..=most).contains(&got),
        _ => false,
    }
}

fn equal(want: &Value, got: &Value) -> bool {
    match (want.as_f64(), got.as_f64()) {
        (Some(want), Some(got)) => want == got,
        _ => want == got,
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn differs(want: &Value, got: &Value, place: &str) -> Outcome {
    Err(Mismatch(format!("{place}: expected {}, got {}", shorten(want), shorten(got))))
}

/// A value as one short line.
pub fn shorten(value: &Value) -> String {
    shorten_text(&text_of(value))
}

/// A text as one short line.
pub fn shorten_text(text: &str) -> String {
    let line = text.replace('\r', "\\r").replace('\n', "\\n");
    match line.char_indices().nth(400) {
        None => line,
        Some((end, _)) => format!("{}... ({} characters)", &line[..end], line.chars().count()),
    }
}

#[test]
fn matchers_mean_what_the_format_says() {
    use serde_json::json;
    let check = |want: Value, got: Value, holds: bool| {
        assert_eq!(matches(&want, Some(&got), "value").is_ok(), holds, "{want} against {got}");
    };
    check(json!({"a": 1}), json!({"a": 1.0, "b": 2}), true);
    check(json!({"a": {"$absent": true}}), json!({"b": 2}), true);
    check(json!({"a": {"$absent": true}}), json!({"a": null}), false);
    check(json!([1, 2]), json!([1, 2, 3]), false);
    check(json!({"$has": [{"n": 1}]}), json!([{"n": 2}, {"n": 1, "m": 3}]), true);
    check(json!({"$re": "^a.c$"}), json!("a\nc"), true);
    check(json!({"$len": {"$between": [1, 2]}}), json!([1, 2, 3]), false);
    check(json!({"$not": {"$re": "x"}}), json!("abc"), true);
    check(json!({"$type": "uuid"}), json!("0855B320-0dd2-547d-891d-601e9b38647f"), false);
    check(json!({"$same": "5"}), json!(5), true);
    check(json!(true), json!(1), false);
}
