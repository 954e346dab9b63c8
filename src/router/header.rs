//! Header conditions of a route.
//!
//! Names are equal whatever their case, and `-` equals `_` in them; values are compared in lower case, each line of a
//! repeated header on its own.

use http::HeaderMap;
use http::HeaderName;
use regex::bytes::Regex;
use smallvec::SmallVec;

use crate::entity::path;

/// Kong looks at no more lines than this.
const LINES: usize = 100;

/// One named header of a route and the values it may have.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Lower case, with `-` for `_`.
    pub name: HeaderName,
    pub values: Box<[Value]>,
}

/// A value that a header may have.
#[derive(Debug)]
pub(crate) enum Value {
    /// In lower case.
    Text(Box<[u8]>),
    /// Searched in the lower-cased value.
    Regex(Regex),
}

impl Condition {
    pub(crate) fn parse(name: &str, values: &[String]) -> Result<Condition, String> {
        let dashed = name.replace('_', "-");
        let name = HeaderName::from_bytes(dashed.as_bytes()).map_err(|_| format!("invalid header name: {name}"))?;
        let values = values.iter().map(|value| Value::parse(value)).collect::<Result<_, _>>()?;
        Ok(Condition { name, values })
    }

    pub(crate) fn matches(&self, headers: &HeaderMap) -> bool {
        any_line(headers, &self.name, |line| self.values.iter().any(|value| value.matches(line)))
    }

    /// The values as texts, unless one is a regex.
    pub(crate) fn texts(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let plain = self.values.iter().all(|value| matches!(value, Value::Text(_)));
        plain.then(|| {
            self.values.iter().filter_map(|value| match value {
                Value::Text(text) => Some(&**text),
                Value::Regex(_) => None,
            })
        })
    }
}

impl Value {
    /// Kong: the pattern is lower-cased as text, so `\D` becomes `\d`.
    fn parse(value: &str) -> Result<Value, String> {
        let lower = value.to_ascii_lowercase();
        match lower.strip_prefix("~*") {
            Some(pattern) => path::compile_unanchored(pattern).map(Value::Regex),
            None => Ok(Value::Text(lower.into_bytes().into())),
        }
    }

    fn matches(&self, line: &[u8]) -> bool {
        match self {
            Value::Text(text) => text.eq_ignore_ascii_case(line),
            Value::Regex(regex) => in_lower_case(line, |line| regex.is_match(line)),
        }
    }
}

/// Whether one of the lines that `name` (lower case, dashes) has in `headers` is accepted.
pub(crate) fn any_line(headers: &HeaderMap, name: &HeaderName, mut accept: impl FnMut(&[u8]) -> bool) -> bool {
    if headers.len() > LINES {
        let mut seen = headers.iter().take(LINES);
        return seen.any(|(other, line)| is_twin(other, name) && accept(line.as_bytes()));
    }
    if headers.get_all(name).iter().any(|line| accept(line.as_bytes())) {
        return true;
    }
    if !name.as_str().contains('-') {
        return false;
    }
    let mut twins = headers.keys().filter(|other| other.as_str().contains('_') && is_twin(other, name));
    twins.any(|twin| headers.get_all(twin).iter().any(|line| accept(line.as_bytes())))
}

/// Calls `visit` with every line that is looked at: its name (with `-` for `_`) and its value.
pub(crate) fn each_line(headers: &HeaderMap, mut visit: impl FnMut(&str, &[u8])) {
    for (name, line) in headers.iter().take(LINES) {
        let name = name.as_str();
        if !name.contains('_') {
            visit(name, line.as_bytes());
            continue;
        }
        let dashed: SmallVec<[u8; 128]> = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte }).collect();
        visit(std::str::from_utf8(&dashed).unwrap_or(name), line.as_bytes());
    }
}

/// Gives `line` in lower case. Allocates only for a long line that has capitals.
pub(crate) fn in_lower_case<T>(line: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    if !line.iter().any(u8::is_ascii_uppercase) {
        return then(line);
    }
    let mut lower = SmallVec::<[u8; 512]>::from_slice(line);
    lower.make_ascii_lowercase();
    then(&lower)
}

fn is_twin(other: &HeaderName, name: &HeaderName) -> bool {
    let (other, name) = (other.as_str().as_bytes(), name.as_str().as_bytes());
    other.len() == name.len() && other.iter().zip(name).all(|(&a, &b)| a == b || (a == b'_' && b == b'-'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_condition_wants_one_of_its_values_on_one_line() {
        for (name, values, lines, expected) in [
            ("X-Version", &["2", "Two"][..], &[("x-version", "tWO")][..], true),
            ("X-Version", &["2"], &[("x-version", "1"), ("x-version", "2")], true),
            ("X-Version", &["2"], &[("x-version", "1,2")], false),
            ("X-Version", &["2"], &[("x_version", "2")], true),
            ("X_Version", &["2"], &[("x-version", "2")], true),
            ("X-A-B", &["2"], &[("x_a-b", "2")], true),
            ("X-Version", &["2"], &[], false),
            ("X-Client", &["~*^ios/1[0-9]"], &[("x-client", "iOS/17.2")], true),
            ("X-Client", &["~*^ios/1[0-9]"], &[("x-client", "my ios/12")], false),
            ("X-Client", &["~*^IOS"], &[("x-client", "ios")], true),
            ("X-Client", &["~*^\\D$"], &[("x-client", "7")], true),
        ] {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            let condition = Condition::parse(name, &values).unwrap();
            assert_eq!(condition.matches(&headers(lines)), expected, "{name} {values:?} {lines:?}");
        }
    }

    #[test]
    fn lines_beyond_the_hundredth_are_not_seen() {
        let condition = Condition::parse("x-late", &["1".to_owned()]).unwrap();
        let mut seen = HeaderMap::new();
        for number in 0..LINES - 1 {
            let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            seen.append(name, HeaderValue::from_static("1"));
        }
        let mut unseen = seen.clone();
        seen.append("x-late", HeaderValue::from_static("1"));
        seen.append("x-later", HeaderValue::from_static("1"));
        assert!(condition.matches(&seen));
        unseen.append("x-later", HeaderValue::from_static("1"));
        unseen.append("x-late", HeaderValue::from_static("1"));
        assert!(!condition.matches(&unseen));
    }

    #[test]
    fn a_name_that_is_no_header_or_a_broken_regex_is_an_error() {
        assert!(Condition::parse("a b", &[]).is_err());
        assert!(Condition::parse("a", &["~*(".to_owned()]).is_err());
    }
}
