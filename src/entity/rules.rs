//! Rules over several fields: what they read, what they complain about.
//!
//! Kong: a rule is skipped while a field it reads has an error of its own, so that one mistake is told once. Rules that
//! only ask whether something is set run all the same.

use serde_json::Value;

use crate::entity::Doc;
use crate::entity::check;
use crate::entity::declare::{Complaint, Rule};
use crate::entity::problem::Violations;

/// Adds to `violations` what `doc` does against `rules`. `updating` changes one text.
pub fn run(rules: &[Rule], doc: &Doc, updating: bool, violations: &mut Violations) {
    for rule in rules {
        let reads = reads(rule);
        if reads.iter().any(|path| is_reference(at(doc, path))) {
            continue;
        }
        if runs_with_errors(rule) || !reads.iter().any(|path| has_error(&violations.fields, path)) {
            for complaint in complaints(rule, doc, updating) {
                record(complaint, violations);
            }
        }
    }
}

/// The value at a dotted path; null when there is none.
pub fn at<'a>(doc: &'a Doc, path: &str) -> &'a Value {
    let mut steps = path.split('.');
    let first = steps.next().and_then(|name| doc.get(name));
    steps.fold(first, |value, name| value?.get(name)).unwrap_or(&Value::Null)
}

/// Whether this is `{vault://…}`, which stands for a value that is not known here.
pub fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("{vault://") && text.ends_with('}'))
}

fn reads(rule: &Rule) -> Vec<&'static str> {
    match *rule {
        Rule::AtLeastOneOf(fields)
        | Rule::OnlyOneOf(fields)
        | Rule::MutuallyRequired(fields)
        | Rule::MutuallyExclusive(fields)
        | Rule::Distinct(fields)
        | Rule::Custom { fields, .. } => fields.to_vec(),
        Rule::Conditional { if_field, then_field, .. } => vec![if_field, then_field],
    }
}

fn runs_with_errors(rule: &Rule) -> bool {
    matches!(rule, Rule::AtLeastOneOf(_) | Rule::OnlyOneOf(_))
}

fn complaints(rule: &Rule, doc: &Doc, updating: bool) -> Vec<Complaint> {
    let set = |fields: &[&str]| fields.iter().filter(|path| check::is_nonempty(at(doc, path))).count();
    let complain = |bad: bool, text: &str, fields: &[&str]| {
        let names: Vec<String> = fields.iter().map(|path| format!("'{path}'")).collect();
        if bad { vec![Complaint::Entity(format!("{text}: {}", names.join(", ")))] } else { Vec::new() }
    };
    match *rule {
        Rule::AtLeastOneOf(fields) => {
            let when = if updating { "when updating, " } else { "" };
            complain(set(fields) == 0, &format!("{when}at least one of these fields must be non-empty"), fields)
        }
        Rule::OnlyOneOf(fields) => complain(set(fields) != 1, "exactly one of these fields must be non-empty", fields),
        Rule::MutuallyRequired(fields) => complain(
            !matches!(set(fields), n if n == 0 || n == fields.len()),
            "all or none of these fields must be set",
            fields,
        ),
        Rule::MutuallyExclusive(fields) => {
            complain(set(fields) > 1, "only one or none of these fields must be set", fields)
        }
        Rule::Distinct(fields) => {
            let values: Vec<&Value> =
                fields.iter().map(|path| at(doc, path)).filter(|value| !value.is_null()).collect();
            let repeats = values.iter().enumerate().any(|(n, value)| values[..n].contains(value));
            complain(repeats, "values of these fields must be distinct", fields)
        }
        Rule::Conditional { if_field, ref matches, then_field, ref then, message } => {
            if check::matches(matches, at(doc, if_field)).is_err() {
                return Vec::new();
            }
            let Err(text) = check::matches(then, at(doc, then_field)) else { return Vec::new() };
            let entity = message.map_or_else(
                || format!("failed conditional validation given value of field '{if_field}'"),
                str::to_owned,
            );
            vec![Complaint::Entity(entity), Complaint::Field(then_field, text)]
        }
        Rule::Custom { check, .. } => check(doc),
    }
}

fn record(complaint: Complaint, violations: &mut Violations) {
    match complaint {
        Complaint::Entity(text) => violations.entity.push(text),
        Complaint::Field(path, text) => add(&mut violations.fields, path, text),
    }
}

/// Puts `text` at a dotted path, unless something is said there, or on the way, already.
pub fn add(fields: &mut Doc, path: &str, text: String) {
    match path.split_once('.') {
        None => {
            fields.entry(path).or_insert(Value::String(text));
        }
        Some((first, rest)) => {
            if let Value::Object(inner) = fields.entry(first).or_insert_with(|| Value::Object(Doc::new())) {
                add(inner, rest, text);
            }
        }
    }
}

fn has_error(fields: &Doc, path: &str) -> bool {
    let mut steps = path.split('.');
    let Some(mut problem) = steps.next().and_then(|name| fields.get(name)) else { return false };
    for name in steps {
        match problem {
            Value::Object(inner) => match inner.get(name) {
                Some(deeper) => problem = deeper,
                None => return false,
            },
            _ => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::declare::{Check, Match};

    fn says(rule: Rule, doc: Value, updating: bool, fields: Value) -> Value {
        let (Value::Object(doc), Value::Object(fields)) = (doc, fields) else { panic!("not objects") };
        let mut violations = Violations { entity: Vec::new(), fields };
        run(&[rule], &doc, updating, &mut violations);
        Value::Object(violations.into_doc())
    }

    #[test]
    fn rules_about_what_is_set() {
        const AB: &[&str] = &["a", "c.b"];
        let rows = [
            (
                Rule::AtLeastOneOf(AB),
                json!({"a": "", "c": {"b": []}}),
                "at least one of these fields must be non-empty: 'a', 'c.b'",
            ),
            (
                Rule::OnlyOneOf(AB),
                json!({"a": 1, "c": {"b": 1}}),
                "exactly one of these fields must be non-empty: 'a', 'c.b'",
            ),
            (Rule::MutuallyRequired(AB), json!({"a": 1}), "all or none of these fields must be set: 'a', 'c.b'"),
            (
                Rule::MutuallyExclusive(AB),
                json!({"a": 1, "c": {"b": 1}}),
                "only one or none of these fields must be set: 'a', 'c.b'",
            ),
            (Rule::Distinct(AB), json!({"a": 1, "c": {"b": 1}}), "values of these fields must be distinct: 'a', 'c.b'"),
        ];
        for (rule, doc, expected) in rows {
            assert_eq!(says(rule, doc, false, json!({})), json!({"@entity": [expected]}));
        }
    }

    #[test]
    fn a_rule_that_holds_is_silent() {
        let rows = [
            (Rule::AtLeastOneOf(&["a", "b"]), json!({"a": false})),
            (Rule::MutuallyRequired(&["a", "b"]), json!({})),
            (Rule::Distinct(&["a", "b"]), json!({"a": null, "b": null})),
            (Rule::when("a", Match::Eq("x"), "b", Match::Required), json!({"a": "y"})),
            (Rule::when("a", Match::Eq("x"), "b", Match::Required), json!({"a": "x", "b": "{vault://env/b}"})),
        ];
        for (rule, doc) in rows {
            assert_eq!(says(rule, doc, false, json!({})), json!({}));
        }
    }

    #[test]
    fn an_update_says_so() {
        let said = says(Rule::AtLeastOneOf(&["a"]), json!({}), true, json!({}));
        assert_eq!(said, json!({"@entity": ["when updating, at least one of these fields must be non-empty: 'a'"]}));
    }

    #[test]
    fn a_condition_complains_twice_and_not_about_a_field_in_error() {
        let rule = || Rule::when("config.policy", Match::Eq("redis"), "config.redis.host", Match::Required);
        let doc = || json!({"config": {"policy": "redis", "redis": {"host": null}}});
        assert_eq!(
            says(rule(), doc(), false, json!({})),
            json!({
                "config": {"redis": {"host": "required field missing"}},
                "@entity": ["failed conditional validation given value of field 'config.policy'"],
            })
        );
        for fields in [
            json!({"config": "bad"}),
            json!({"config": {"redis": {"host": "bad"}}}),
            json!({"config": {"policy": "bad"}}),
        ] {
            assert_eq!(says(rule(), doc(), false, fields.clone()), fields);
        }
        let rule = Rule::when("a", Match::Is(Check::GreaterThan(0)), "b", Match::Is(Check::Contains("exp")));
        assert_eq!(says(rule, json!({"a": 1, "b": ["exp"]}), false, json!({})), json!({}));
    }
}
