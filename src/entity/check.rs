//! What each `Check` and `Match` accepts, and its message.
//!
//! One value at a time, after its type is known to be right. Every check passes null, as Kong's do.

use std::cmp::Ordering;

use serde_json::Value;
use uuid::Uuid;

use crate::entity::declare::{Check, Field, Match, Type};

/// Integers beyond this are not exact in Kong's numbers, nor in JavaScript's.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub const REQUIRED: &str = "required field missing";
pub const UNKNOWN: &str = "unknown field";

/// The first of the field's checks that `value` fails.
pub fn all(field: &Field, value: &Value) -> Result<(), String> {
    // Kong: strings are tested for emptiness after enumerations and before formats.
    let (early, late): (Vec<_>, Vec<_>) = field.checks.iter().partition(|check| precedes_length(check));
    early.into_iter().try_for_each(|check| one(check, value))?;
    if matches!(field.kind, Type::String) && !late.iter().any(|check| matches!(check, Check::LenMin(_))) {
        one(&Check::LenMin(1), value)?;
    }
    late.into_iter().try_for_each(|check| one(check, value))
}

/// Whether `value` passes `check`; the error is the field's text.
pub fn one(check: &Check, value: &Value) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let refuse = |ok: bool, text: &dyn Fn() -> String| if ok { Ok(()) } else { Err(text()) };
    match *check {
        Check::Uuid => refuse(uuid(value).is_some(), &|| "expected a valid UUID".to_owned()),
        Check::Timestamp => {
            refuse(value.as_f64().is_some_and(|time| time > 0.0), &|| "expected a valid timestamp".to_owned())
        }
        Check::Between(low, high) => refuse(
            compare(value, low).is_some_and(Ordering::is_ge) && compare(value, high).is_some_and(Ordering::is_le),
            &|| format!("value should be between {low} and {high}"),
        ),
        Check::GreaterThan(low) => {
            refuse(compare(value, low).is_some_and(Ordering::is_gt), &|| format!("value must be greater than {low}"))
        }
        Check::OneOf(words) => refuse(value.as_str().is_some_and(|text| words.contains(&text)), &|| {
            format!("expected one of: {}", words.join(", "))
        }),
        Check::OneOfInt(numbers) => refuse(value.as_i64().is_some_and(|number| numbers.contains(&number)), &|| {
            let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
            format!("expected one of: {}", numbers.join(", "))
        }),
        Check::NotOneOf(words) => refuse(value.as_str().is_none_or(|text| !words.contains(&text)), &|| {
            format!("must not be one of: {}", words.join(", "))
        }),
        Check::LenMin(least) => refuse(length(value) >= least, &|| format!("length must be at least {least}")),
        Check::LenEq(exact) => refuse(length(value) == exact, &|| format!("length must be {exact}")),
        Check::Contains(word) => {
            refuse(words(value).any(|item| item == word), &|| format!("expected to contain: {word}"))
        }
        Check::MutuallyExclusiveSubsets(sets) => one_subset(sets, value),
        Check::Format(format) => value.as_str().map_or(Ok(()), format.check),
        Check::Custom(check) => check(value),
    }
}

/// Whether `value` (null for an absent one) is what `matching` wants; the error is the text for its field.
pub fn matches(matching: &Match, value: &Value) -> Result<(), String> {
    match *matching {
        Match::Required if value.is_null() => Err(REQUIRED.to_owned()),
        Match::Required => Ok(()),
        Match::Null if value.is_null() => Ok(()),
        Match::Null => Err("value must be null".to_owned()),
        Match::Eq(word) if value.as_str() == Some(word) => Ok(()),
        Match::Eq(word) => Err(format!("value must be {word}")),
        Match::Is(ref check) => one(check, value),
        Match::Each(ref check) => value.as_array().into_iter().flatten().try_for_each(|item| one(check, item)),
    }
}

/// A UUID in the one spelling that counts: 36 characters with hyphens, in any letter case.
pub fn uuid(value: &Value) -> Option<Uuid> {
    value.as_str().filter(|text| text.len() == 36)?.parse().ok()
}

/// The value of an integer field: numbers without a fraction, `5.0` too, as far as they are exact.
pub fn integer(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let number = value.as_f64().filter(|_| !value.is_u64())?;
    // The range makes the cast exact.
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// Neither null, nor empty.
pub fn is_nonempty(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(doc) => !doc.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn precedes_length(check: &Check) -> bool {
    match check {
        Check::Uuid
        | Check::Timestamp
        | Check::Between(..)
        | Check::GreaterThan(_)
        | Check::OneOf(_)
        | Check::OneOfInt(_)
        | Check::NotOneOf(_) => true,
        Check::LenMin(_)
        | Check::LenEq(_)
        | Check::Contains(_)
        | Check::MutuallyExclusiveSubsets(_)
        | Check::Format(_)
        | Check::Custom(_) => false,
    }
}

fn compare(value: &Value, bound: i64) -> Option<Ordering> {
    match value.as_i64() {
        Some(number) => Some(number.cmp(&bound)),
        None => value.as_f64()?.partial_cmp(&(bound as f64)),
    }
}

/// Bytes of a string, as Kong counts; items of anything else.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(doc) => doc.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// All words from one of `sets`. The complaint lists the sets that were mixed, in order of first appearance.
fn one_subset(sets: &'static [&'static [&'static str]], value: &Value) -> Result<(), String> {
    let mut touched: Vec<&[&str]> = Vec::new();
    for word in words(value) {
        if let Some(set) = sets.iter().find(|set| set.contains(&word))
            && !touched.contains(set)
        {
            touched.push(set);
        }
    }
    if touched.len() < 2 {
        return Ok(());
    }
    let sets: Vec<String> = touched.iter().map(|set| format!("('{}')", set.join("', '"))).collect();
    Err(format!("these sets are mutually exclusive: {}", sets.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::format;

    fn says(check: Check, value: Value, expected: &str) {
        assert_eq!(one(&check, &value).err().unwrap_or_default(), expected, "{check:?} of {value}");
    }

    #[test]
    fn each_check_has_its_text() {
        says(Check::Uuid, json!("0123456789ab4cde8f0123456789abcd"), "expected a valid UUID");
        says(Check::Uuid, json!("AAAAAAAA-BBBB-4CCC-8DDD-0123456789AB"), "");
        says(Check::Timestamp, json!(0), "expected a valid timestamp");
        says(Check::Timestamp, json!(1), "");
        says(Check::Between(0, 65535), json!(65536), "value should be between 0 and 65535");
        says(Check::Between(0, 65535), json!(65535.5), "value should be between 0 and 65535");
        says(Check::Between(0, 65535), json!(0.5), "");
        says(Check::GreaterThan(0), json!(0), "value must be greater than 0");
        says(Check::GreaterThan(0), json!(0.1), "");
        says(Check::OneOf(&["a", "b"]), json!("c"), "expected one of: a, b");
        says(Check::OneOfInt(&[426, 301]), json!(418), "expected one of: 426, 301");
        says(Check::NotOneOf(&["env"]), json!("env"), "must not be one of: env");
        says(Check::LenMin(1), json!([]), "length must be at least 1");
        says(Check::LenEq(0), json!(["a"]), "length must be 0");
        says(Check::Contains("exp"), json!(["nbf"]), "expected to contain: exp");
        says(Check::Custom(|_| Err("no".to_owned())), json!(1), "no");
    }

    #[test]
    fn mixed_subsets_are_listed_as_they_appear() {
        let check = Check::MutuallyExclusiveSubsets(&[&["http", "https"], &["tcp", "tls", "udp"], &["grpc"]]);
        says(check, json!(["http", "https"]), "");
        says(
            check,
            json!(["tcp", "http", "udp"]),
            "these sets are mutually exclusive: ('tcp', 'tls', 'udp'), ('http', 'https')",
        );
    }

    #[test]
    fn null_passes_every_check() {
        for check in [Check::Uuid, Check::Timestamp, Check::Between(1, 2), Check::LenMin(1), Check::OneOf(&["a"])] {
            says(check, Value::Null, "");
        }
    }

    #[test]
    fn enumerations_come_before_emptiness_and_formats_after() {
        const HOST: &[Check] = &[Check::Format(&format::HOST)];
        let said = |field: Field| all(&field, &json!("")).err().unwrap_or_default();
        assert_eq!(said(Field::string("").checks(&[Check::OneOf(&["a"])])), "expected one of: a");
        assert_eq!(said(Field::string("").checks(HOST)), "length must be at least 1");
        assert!(all(&Field::string("").checks(&[Check::LenMin(0)]), &json!("")).is_ok());
    }

    #[test]
    fn integers_without_a_fraction_count_as_integers() {
        let rows = [
            (json!(5), Some(5)),
            (json!(5.0), Some(5)),
            (json!(-3), Some(-3)),
            (json!(9_007_199_254_740_991_i64), Some(9_007_199_254_740_991)),
            (json!(5.5), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
            (json!("5"), None),
        ];
        for (value, expected) in rows {
            assert_eq!(integer(&value), expected, "{value}");
        }
    }

    #[test]
    fn what_a_condition_wants() {
        let says = |matching: Match, value: Value| matches(&matching, &value).err().unwrap_or_default();
        assert_eq!(says(Match::Required, Value::Null), "required field missing");
        assert_eq!(says(Match::Null, json!("/x")), "value must be null");
        assert_eq!(says(Match::Eq("redis"), json!("local")), "value must be redis");
        assert_eq!(says(Match::Each(Check::NotOneOf(&["https"])), json!(["http"])), "");
        assert_eq!(
            says(Match::Each(Check::NotOneOf(&["https"])), json!(["http", "https"])),
            "must not be one of: https"
        );
    }
}
