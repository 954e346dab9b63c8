//! From values to meaning: typed reads that gather every complaint instead of stopping at the first.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::node::settings::property::Property;
use crate::node::settings::said::Said;
use crate::node::settings::table::PROPERTIES;
use crate::node::settings::value::Value;
use crate::node::settings::{listen, vault};

/// Every property's value, with what is wrong so far.
pub struct Reader {
    values: BTreeMap<&'static str, Value>,
    problems: Vec<String>,
}

impl Reader {
    /// Reads what was said by the table; `environment` resolves `{vault://env/…}`.
    pub fn new(said: &Said, environment: &BTreeMap<String, String>, mut problems: Vec<String>) -> Self {
        let vault_prefix = said.text("vault_env_prefix").unwrap_or_default();
        let mut values = BTreeMap::new();
        for property in PROPERTIES {
            let text = said.text(property.name).unwrap_or(property.default);
            let value = property.read(text).and_then(|value| dereference(property, value, vault_prefix, environment));
            match value {
                Ok(value) => {
                    values.insert(property.name, value);
                }
                Err(problem) => problems.push(problem),
            }
        }
        Self { values, problems }
    }

    pub fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// All complaints, in the order they were made.
    pub fn into_problems(self) -> Vec<String> {
        self.problems
    }

    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Value::Flag(true))
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(items) => items.clone(),
            _ => Vec::new(),
        }
    }

    /// A whole number in `allowed`; unset or wrong answers `None`.
    pub fn whole(&mut self, name: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let Value::Number(number) = *self.value(name) else { return None };
        let whole = number as u64;
        if number.fract() == 0.0 && number >= 0.0 && allowed.contains(&whole) {
            return Some(whole);
        }
        self.refuse(
            name,
            &number.to_string(),
            &format!("a whole number from {} to {}", allowed.start(), allowed.end()),
        );
        None
    }

    /// Seconds with fractions, from 0 to ten years; unset or wrong answers `None`.
    pub fn seconds(&mut self, name: &str) -> Option<Duration> {
        const TEN_YEARS_S: f64 = 315_360_000.0;
        let Value::Number(number) = *self.value(name) else { return None };
        if (0.0..=TEN_YEARS_S).contains(&number) {
            return Some(Duration::from_secs_f64(number));
        }
        self.refuse(name, &number.to_string(), "seconds from 0 to 315360000");
        None
    }

    /// A text that `parse` must understand; `allowed` says what it does.
    pub fn parsed<T>(&mut self, name: &str, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.refuse(name, &text, allowed);
        }
        parsed
    }

    /// A list whose every item `parse` must understand; `complaint` makes the sentence about one that it does not.
    pub fn each<T>(
        &mut self,
        name: &str,
        complaint: impl Fn(&str) -> String,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for item in self.list(name) {
            match parse(&item) {
                Some(parsed) => all.push(parsed),
                None => self.problems.push(complaint(&item)),
            }
        }
        all
    }

    /// The entries of a listener property.
    pub fn listeners(&mut self, name: &str) -> Vec<listen::Entry> {
        let items = self.list(name);
        listen::parse(name, &items).unwrap_or_else(|problem| {
            self.problems.push(problem);
            Vec::new()
        })
    }

    /// `configuration` of `GET /`: everything, with secrets masked.
    pub fn document(&self) -> serde_json::Value {
        let shown = |property: &Property| match self.value(property.name) {
            Value::Unset => serde_json::Value::Null,
            _ if property.secret => "******".into(),
            value => value.to_json(),
        };
        PROPERTIES.iter().map(|property| (property.name.to_owned(), shown(property))).collect()
    }

    fn value(&self, name: &str) -> &Value {
        debug_assert!(PROPERTIES.iter().any(|property| property.name == name), "{name} is not declared");
        self.values.get(name).unwrap_or(&Value::Unset)
    }

    fn refuse(&mut self, name: &str, text: &str, allowed: &str) {
        self.problems.push(format!("{name} has an invalid value: '{text}' ({allowed})"));
    }
}

/// A number of bytes as nginx has it: `8192`, `8k`, `10m`, `1g`.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A time as nginx has it: `60`, `60s`, `500ms`, `1m`, `1h`. Below 2^32 of its unit.
pub fn span(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    digits.parse::<u32>().ok().map(|number| Duration::from_millis(u64::from(number) * unit_ms))
}

fn dereference(
    property: &Property,
    value: Value,
    prefix: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Value, String> {
    let resolve = |text: String| match vault::is_reference(&text) {
        true => vault::resolve(&text, property.name, prefix, environment),
        false => Ok(text),
    };
    match value {
        Value::Text(text) => resolve(text).map(Value::Text),
        Value::List(items) => items.into_iter().map(resolve).collect::<Result<_, _>>().map(Value::List),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nginx_units() {
        let ms = |text| span(text).map(|time| time.as_millis());
        assert_eq!(["60", "5s", "500ms", "2m", "1h"].map(ms), [60_000, 5_000, 500, 120_000, 3_600_000].map(Some));
        assert_eq!(["", "s", "1.5s", "-1", "1d", "99999999999", "1é"].map(ms), [None; 7]);
    }

    #[test]
    fn sizes_have_nginx_units() {
        assert_eq!(["0", "8k", "10m", "2G"].map(size), [Some(0), Some(8192), Some(10 << 20), Some(2 << 30)]);
        assert_eq!(["", "m", "1.5m", "-1", "1t", "99999999999g", "1é"].map(size), [None; 7]);
    }
}
