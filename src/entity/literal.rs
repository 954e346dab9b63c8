//! Values written as Kong's messages show them: `{id="…"}` on one line, deep complaints over several.
//!
//! Kong prints tables of its own language. JSON would read better, but tools and people match on these texts.

use std::fmt::Write as _;

use serde_json::Value;

/// On one line, keys in alphabetical order, no blanks: `{consumer=null,name="x"}`. Nulls in a list are left out, and
/// what follows is numbered.
pub fn line(value: &Value) -> String {
    let mut out = String::new();
    write_line(&mut out, value);
    out
}

/// One entry per line, indented by two blanks per level. Nulls in a list are left out, and what follows is numbered.
pub fn block(value: &Value) -> String {
    let mut out = String::new();
    write_block(&mut out, value, 0);
    out
}

/// The members of an object in alphabetical order.
pub fn sorted(doc: &crate::entity::Doc) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = doc.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    members
}

fn write_line(out: &mut String, value: &Value) {
    out.push('{');
    match value {
        Value::Object(doc) => separated(out, sorted(doc), |out, (name, value)| {
            key(out, name);
            out.push('=');
            line_item(out, value);
        }),
        Value::Array(items) => separated(out, entries_of(items), |out, (number, item)| {
            if let Some(number) = number {
                let _ = write!(out, "[{number}]=");
            }
            line_item(out, item);
        }),
        scalar => line_item(out, scalar),
    }
    out.push('}');
}

/// A list runs up to its first hole; what stands beyond carries its number.
fn entries_of(items: &[Value]) -> impl Iterator<Item = (Option<usize>, &Value)> {
    let run = items.iter().take_while(|item| !item.is_null()).count();
    let numbered = items.iter().enumerate().filter(|(_, item)| !item.is_null());
    numbered.map(move |(at, item)| ((at >= run).then_some(at + 1), item))
}

fn line_item(out: &mut String, value: &Value) {
    match value {
        Value::Object(_) | Value::Array(_) => write_line(out, value),
        scalar => write_scalar(out, scalar),
    }
}

fn separated<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
}

fn write_block(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(doc) => {
            let members = sorted(doc);
            let (strange, plain): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| !is_identifier(name));
            entries(out, strange.into_iter().chain(plain).map(|(name, value)| (Some(keyed(name)), value)), depth);
        }
        Value::Array(items) => {
            let numbered = entries_of(items);
            entries(out, numbered.map(|(number, item)| (number.map(|number| format!("[{number}]")), item)), depth);
        }
        scalar => write_scalar(out, scalar),
    }
}

fn entries<'a>(out: &mut String, entries: impl Iterator<Item = (Option<String>, &'a Value)>, depth: usize) {
    out.push('{');
    for (at, (name, value)) in entries.enumerate() {
        out.push_str(if at > 0 { ",\n" } else { "\n" });
        out.push_str(&"  ".repeat(depth + 1));
        if let Some(name) = name {
            out.push_str(&name);
            out.push_str(" = ");
        }
        write_block(out, value, depth + 1);
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push('}');
}

fn write_scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => quote(out, text),
        other => {
            // Writing to a String cannot fail.
            let _ = write!(out, "{other}");
        }
    }
}

fn keyed(name: &str) -> String {
    let mut out = String::new();
    key(&mut out, name);
    out
}

fn key(out: &mut String, name: &str) {
    if is_identifier(name) {
        out.push_str(name);
    } else {
        out.push('[');
        quote(out, name);
        out.push(']');
    }
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' | '\n' => out.extend(['\\', char]),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines() {
        let rows = [
            (json!({"id": "x"}), r#"{id="x"}"#),
            (
                json!({"service": {"id": "s"}, "name": "n", "route": null, "a-b": 1}),
                r#"{["a-b"]=1,name="n",route=null,service={id="s"}}"#,
            ),
            (json!({"a": r#"q"\"#}), r#"{a="q\"\\"}"#),
            (json!({"a": ["x", true]}), r#"{a={"x",true}}"#),
            (json!({"a": ["x", null, {"b": "y"}]}), r#"{a={"x",[3]={b="y"}}}"#),
        ];
        for (value, expected) in rows {
            assert_eq!(line(&value), expected);
        }
    }

    #[test]
    fn blocks() {
        let rows = [
            (json!({"port": "expected an integer"}), "{\n  port = \"expected an integer\"\n}"),
            (json!(["bad"]), "{\n  \"bad\"\n}"),
            (json!([null, "bad"]), "{\n  [2] = \"bad\"\n}"),
            (
                json!({"healthy": {"http_statuses": [null, "i"], "interval": "n"}, "timeout": "t"}),
                "{\n  healthy = {\n    http_statuses = {\n      [2] = \"i\"\n    },\n    interval = \"n\"\n  },\n  timeout = \"t\"\n}",
            ),
            (json!({"@entity": ["x"]}), "{\n  [\"@entity\"] = {\n    \"x\"\n  }\n}"),
        ];
        for (value, expected) in rows {
            assert_eq!(block(&value), expected);
        }
    }
}
