//! What a property's text can be: Kong's five forms, and the values they make.

use serde_json::json;

/// How a property's text is read.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// `on` or `off`.
    Flag,
    Number,
    /// As it stands.
    Text,
    /// Comma-separated, items trimmed.
    List,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// A property's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unset,
    Flag(bool),
    Number(f64),
    Text(String),
    List(Vec<String>),
}

impl Form {
    /// Reads the text of the property `name`; the error is Kong's sentence.
    pub(super) fn read(self, name: &str, text: &str) -> Result<Value, String> {
        match self {
            Form::Text => Ok(Value::Text(text.to_owned())),
            Form::List => Ok(Value::List(items(text))),
            Form::Flag => match text {
                "on" | "true" => Ok(Value::Flag(true)),
                "off" | "false" => Ok(Value::Flag(false)),
                // Kong: takes any other word for `off`. A typo in `pg_ssl_verify` would switch it off unseen.
                _ => Err(not_one_of(name, text, &["on", "off"])),
            },
            Form::Number => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::Number(number)),
                _ => Err(format!("{name} is not a number: '{text}'")),
            },
            Form::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Form::OneOf(words) => Err(not_one_of(name, text, words)),
        }
    }
}

impl Value {
    /// As `configuration` of `GET /` shows it.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Unset => serde_json::Value::Null,
            Value::Flag(flag) => json!(flag),
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => json!(*number as i64),
            Value::Number(number) => json!(number),
            Value::Text(text) => json!(text),
            Value::List(items) => json!(items),
        }
    }
}

/// Items of a comma-separated list, empty ones left out.
pub fn items(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn not_one_of(name: &str, text: &str, words: &[&str]) -> String {
    format!("{name} has an invalid value: '{text}' ({})", words.join(", "))
}
