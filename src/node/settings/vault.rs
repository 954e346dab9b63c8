//! `{vault://env/NAME}` in place of a value: the secret is in an environment variable of another name.
//!
//! Only Kong's bundled vault `env` is known.

use std::collections::BTreeMap;

/// Whether `text` is a reference.
pub fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://") && text.ends_with('}')
}

/// What `reference` stands for. `{vault://env/a-b/key}` is the member `key` of the JSON in `A_B`.
/// The error is Kong's sentence about the property `name`.
pub fn resolve(
    reference: &str,
    name: &str,
    prefix: &str,
    environment: &BTreeMap<String, String>,
) -> Result<String, String> {
    look_up(reference, prefix, environment)
        .map_err(|why| format!("failed to dereference '{reference}': {why} for config option '{name}'"))
}

fn look_up(reference: &str, prefix: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let inner = reference.strip_prefix("{vault://").and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    let mut parts = inner.split('/');
    let (vault, variable, member) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    if vault != "env" {
        return Err(format!("vault not found ({vault})"));
    }
    if variable.is_empty() {
        return Err("reference url has no path".to_owned());
    }
    let variable = format!("{prefix}{variable}").to_uppercase().replace('-', "_");
    let text = environment.get(&variable).ok_or_else(|| format!("environment variable {variable} is not set"))?;
    match member {
        None => Ok(text.clone()),
        Some(member) => json_member(text, member).ok_or_else(|| format!("{variable} has no text '{member}'")),
    }
}

fn json_member(text: &str, member: &str) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(text).ok()?;
    match object.get(member)? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reference: &str, prefix: &str, expected: Result<&str, &str>) {
        let environment = [("A_B", "plain"), ("P_A_B", "prefixed"), ("J", r#"{"k": "in json", "n": 3}"#)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let found = resolve(reference, "pg_password", prefix, &environment);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn names_are_upper_cased_with_underscores() {
        check("{vault://env/a-b}", "", Ok("plain"));
        check("{vault://env/a-b}", "p-", Ok("prefixed"));
    }

    #[test]
    fn the_last_segment_picks_from_json() {
        check("{vault://env/j/k}", "", Ok("in json"));
        check("{vault://env/j/n}", "", Ok("3"));
    }

    #[test]
    fn a_failure_names_the_reference_and_the_property() {
        check(
            "{vault://env/gone}",
            "",
            Err("failed to dereference '{vault://env/gone}': environment variable GONE is not set for config option \
                 'pg_password'"),
        );
        check(
            "{vault://aws/x}",
            "",
            Err("failed to dereference '{vault://aws/x}': vault not found (aws) for config option 'pg_password'"),
        );
    }
}
