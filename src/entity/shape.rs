//! Brings a document into the shape of its declaration: every field there, in order, typed, defaulted and checked.
//!
//! One walk does both, because a default is checked like what a client sends, and a stored value is checked again when
//! a PATCH changes its neighbours. Every mistake is collected; a field tells its first. A walk goes as deep as the
//! declaration does, never as deep as the input.

use serde_json::Value;

use crate::entity::check::{self, REQUIRED, UNKNOWN};
use crate::entity::declare::{
    Check, Declaration, Field, Literal, Override, PluginDeclaration, Record, Refused, Rule, Type, Variants,
};
use crate::entity::foreign;
use crate::entity::problem::Violations;
use crate::entity::rules;
use crate::entity::{Doc, Kind};

/// What a document is held against.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    fields: &'static [Field],
    rules: &'static [Rule],
    /// Checked after `rules`: those of a variant or a plugin.
    more_rules: &'static [Rule],
    overrides: &'static [Override],
    plugin: Option<&'static PluginDeclaration>,
}

/// A field as it counts here, with what a variant or a plugin changes about it.
#[derive(Clone, Copy)]
pub struct View {
    pub field: Field,
    /// What elements of the field's set may be, instead of what they say.
    pub words: Option<&'static [&'static str]>,
    pub refused: Option<(Refused, &'static str)>,
}

impl Pattern {
    /// The pattern for a document that will hold `doc`'s members over `stored`'s. The error names the one field that
    /// has to be right before anything else can be said.
    pub fn of(
        kind: Kind,
        doc: &Doc,
        stored: Option<&Doc>,
        plugin: Option<&'static PluginDeclaration>,
    ) -> Result<Self, Violations> {
        let kind: &'static Declaration = kind.declaration();
        let plain = Self { fields: kind.fields, rules: kind.rules, more_rules: &[], overrides: &[], plugin: None };
        match kind.variants {
            Variants::None => Ok(plain),
            Variants::ByPlugin => match plugin {
                Some(plugin) => Ok(Self { more_rules: plugin.rules, plugin: Some(plugin), ..plain }),
                None => Err(no_plugin(select("name", doc, stored, kind))),
            },
            Variants::BySet { field, variants } => {
                let chosen = select(field, doc, stored, kind);
                let names: Vec<&Value> = chosen.as_array().map_or_else(|| vec![&chosen], |list| list.iter().collect());
                let known = |name: &&Value| {
                    variants.iter().find(|variant| name.as_str().is_some_and(|name| variant.names.contains(&name)))
                };
                match (names.iter().find_map(known), names.first()) {
                    (Some(variant), _) => Ok(Self { more_rules: variant.rules, overrides: variant.overrides, ..plain }),
                    (None, Some(Value::String(name))) => Err(Violations::field(field, format!("unknown type: {name}"))),
                    (None, Some(Value::Null)) => Err(Violations::field(field, REQUIRED)),
                    // An empty set, or something that is no name: the field says so itself.
                    (None, _) => Ok(plain),
                }
            }
        }
    }

    fn record(record: &'static Record) -> Self {
        Self { fields: record.fields, rules: record.rules, more_rules: &[], overrides: &[], plugin: None }
    }

    /// `field` as it counts under this pattern.
    pub fn view(&self, field: &Field) -> View {
        let mut view = View { field: *field, words: None, refused: None };
        if let Some(changed) = self.overrides.iter().find(|changed| changed.field == field.name) {
            view.field.default = changed.default.or(field.default);
            view.refused = Some((changed.refused, changed.message));
        }
        if let Some(plugin) = self.plugin {
            match field.name {
                "config" => view.field.kind = Type::Record(&plugin.config),
                "protocols" => view.words = Some(plugin.protocols),
                "consumer" if !plugin.consumer_scope => view.refused = Some((Refused::NotNull, "value must be null")),
                _ => {}
            }
        }
        view
    }
}

/// `sent` laid over `stored` (a PATCH) or over the defaults, and all that is wrong with the result.
pub fn document(pattern: &Pattern, mut sent: Doc, stored: Option<&Doc>, updating: bool) -> (Doc, Violations) {
    let mut doc = Doc::new();
    let mut violations = Violations::default();
    for field in pattern.fields {
        let view = pattern.view(field);
        let below = stored.and_then(|stored| stored.get(field.name));
        let mut value = match sent.remove(field.name) {
            Some(value) => value,
            None => absent(&view.field, below),
        };
        if let Err(problem) = settle(&view, &mut value, below, updating) {
            violations.fields.insert(field.name.to_owned(), problem);
        }
        if !(field.ours && value.is_null()) {
            doc.insert(field.name.to_owned(), value);
        }
    }
    // Kong: `updated_at` is taken and ignored everywhere.
    for name in sent.keys().filter(|name| *name != "updated_at") {
        violations.fields.insert(name.clone(), UNKNOWN.into());
    }
    rules::run(pattern.rules, &doc, updating, &mut violations);
    rules::run(pattern.more_rules, &doc, updating, &mut violations);
    (doc, violations)
}

/// Types and checks one value in place. The error is the field's: a text, or a tree of them.
pub fn settle(view: &View, value: &mut Value, stored: Option<&Value>, updating: bool) -> Result<(), Value> {
    let field = &view.field;
    match view.refused {
        Some((Refused::NotNull, message)) if !value.is_null() => return Err(message.into()),
        Some((Refused::True, message)) if *value == Value::Bool(true) => return Err(message.into()),
        _ => {}
    }
    if value.is_null() {
        return if field.required { Err(REQUIRED.into()) } else { Ok(()) };
    }
    if field.referenceable && rules::is_reference(value) {
        return Ok(());
    }
    typed(view, value, stored, updating)?;
    check::all(field, value).map_err(Value::from)?;
    if field.checks.iter().any(|check| matches!(check, Check::Uuid))
        && let Some(id) = check::uuid(value)
    {
        *value = id.to_string().into();
    }
    Ok(())
}

/// `settle` for a value that stands alone, as an element or a key.
pub fn settle_alone(field: &Field, value: &mut Value, updating: bool) -> Result<(), Value> {
    settle(&View { field: *field, words: None, refused: None }, value, None, updating)
}

fn typed(view: &View, value: &mut Value, stored: Option<&Value>, updating: bool) -> Result<(), Value> {
    let expected = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Value::from(format!("expected {what}"))) };
    match view.field.kind {
        Type::String => match value.as_str() {
            // Kong: an internal error, as its database cannot keep this character. Nor can ours.
            Some(text) if text.contains('\0') => expected(false, "a string without null characters"),
            text => expected(text.is_some(), "a string"),
        },
        Type::Boolean => expected(value.is_boolean(), "a boolean"),
        Type::Integer => {
            *value = check::integer(value).ok_or("expected an integer")?.into();
            Ok(())
        }
        Type::Number => {
            expected(value.is_number(), "a number")?;
            if let Some(whole) = check::integer(value) {
                *value = whole.into();
            }
            Ok(())
        }
        Type::Array(element) => elements(&element_of(view, element), list(value).ok_or("expected an array")?, updating),
        Type::Set(element) => {
            let items = list(value).ok_or("expected a set")?;
            elements(&element_of(view, element), items, updating)?;
            drop_repeats(items);
            Ok(())
        }
        Type::Map { keys, values } => entries(keys, values, object(value).ok_or("expected a map")?, updating),
        Type::Record(record) => {
            let sent = std::mem::take(object(value).ok_or("expected a record")?);
            let stored = stored.and_then(Value::as_object);
            let (doc, violations) = document(&Pattern::record(record), sent, stored, updating);
            *value = Value::Object(doc);
            if violations.is_empty() { Ok(()) } else { Err(Value::Object(violations.into_doc())) }
        }
        Type::Foreign { kind, .. } => foreign::settle(Kind::named(kind), value).map_err(Value::Object),
    }
}

/// What a field holds that was not sent.
fn absent(field: &Field, stored: Option<&Value>) -> Value {
    match (field.kind, stored) {
        // The walk lays the stored members of a record below it one by one.
        (Type::Record(_), Some(Value::Object(_))) => Value::Object(Doc::new()),
        (_, Some(stored)) => stored.clone(),
        (Type::Record(_), None) if field.required => Value::Object(Doc::new()),
        (_, None) => field.default.as_ref().map_or(Value::Null, Literal::value),
    }
}

fn element_of(view: &View, element: &Field) -> View {
    // Kong lets null stand in some lists; no reader of them could make sense of it.
    let mut element = View { field: element.required(), words: None, refused: None };
    if view.words.is_some() {
        element.words = view.words;
        element.field.checks = &[];
    }
    element
}

fn elements(element: &View, items: &mut [Value], updating: bool) -> Result<(), Value> {
    let mut problems: Vec<Value> = Vec::new();
    for (at, item) in items.iter_mut().enumerate() {
        let settled = settle(element, item, None, updating).and_then(|()| match element.words {
            Some(words) => check::one(&Check::OneOf(words), item).map_err(Value::from),
            None => Ok(()),
        });
        if let Err(problem) = settled {
            problems.resize(at, Value::Null);
            problems.push(problem);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Value::Array(problems)) }
}

/// Kong: the first complaint of a key or a value stands for the whole map.
fn entries(keys: &Field, values: &Field, map: &mut Doc, updating: bool) -> Result<(), Value> {
    for (name, value) in map.iter_mut() {
        settle_alone(keys, &mut Value::from(name.as_str()), updating)?;
        settle_alone(&values.required(), value, updating)?;
    }
    Ok(())
}

fn drop_repeats(items: &mut Vec<Value>) {
    let mut seen = std::collections::HashSet::new();
    // Kong: records are never the same as one another.
    items.retain(|item| item.is_object() || item.is_array() || seen.insert(item.to_string()));
}

/// Kong cannot tell `[]` and `{}` apart, so each passes for the other.
fn list(value: &mut Value) -> Option<&mut Vec<Value>> {
    if value.as_object().is_some_and(Doc::is_empty) {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut()
}

fn object(value: &mut Value) -> Option<&mut Doc> {
    if value.as_array().is_some_and(Vec::is_empty) {
        *value = Value::Object(Doc::new());
    }
    value.as_object_mut()
}

/// The value by which a variant is chosen: sent, stored, or the default.
fn select(name: &str, doc: &Doc, stored: Option<&Doc>, kind: &Declaration) -> Value {
    let said = doc.get(name).or_else(|| stored?.get(name));
    said.cloned().unwrap_or_else(|| {
        kind.field(name).and_then(|field| field.default.as_ref()).map_or(Value::Null, Literal::value)
    })
}

fn no_plugin(name: Value) -> Violations {
    let text = match name {
        Value::Null => REQUIRED.to_owned(),
        Value::String(name) => {
            format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property")
        }
        _ => "expected a string".to_owned(),
    };
    Violations::field("name", text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A slice of the health checks of upstreams: records in records, defaults at the leaves.
    static HEALTHCHECKS: Record = Record {
        fields: &[Field::record("active", &ACTIVE).required(), Field::record("passive", &ACTIVE)],
        shorthands: &[],
        rules: &[],
    };
    static ACTIVE: Record = Record {
        fields: &[
            Field::number("timeout").default(Literal::Int(1)).checks(&[Check::Between(0, 65535)]),
            Field::record("healthy", &HEALTHY).required(),
        ],
        shorthands: &[],
        rules: &[],
    };
    static HEALTHY: Record = Record {
        fields: &[
            Field::number("interval").default(Literal::Int(0)),
            Field::array("http_statuses", &STATUS).default(Literal::Ints(&[200, 302])),
        ],
        shorthands: &[],
        rules: &[],
    };
    static STATUS: Field = Field::integer("").checks(&[Check::Between(100, 999)]);

    fn shaped(sent: Value, stored: Option<Value>) -> (Value, Value) {
        let Value::Object(sent) = sent else { panic!("not an object") };
        let stored = stored.as_ref().and_then(Value::as_object);
        let (doc, violations) = document(&Pattern::record(&HEALTHCHECKS), sent, stored, stored.is_some());
        (Value::Object(doc), Value::Object(violations.into_doc()))
    }

    #[test]
    fn required_records_are_filled_to_their_leaves() {
        let healthy = json!({"interval": 0, "http_statuses": [200, 302]});
        let whole = json!({"active": {"timeout": 1, "healthy": healthy}, "passive": null});
        assert_eq!(shaped(json!({}), None), (whole, json!({})));
        let (doc, _) = shaped(json!({"passive": {"timeout": 2.5}}), None);
        assert_eq!(doc["passive"], json!({"timeout": 2.5, "healthy": healthy}));
    }

    #[test]
    fn mistakes_keep_the_shape_of_the_document() {
        let sent = json!({"active": {"healthy": {"interval": "x", "http_statuses": [200, "y"]}, "timeout": -1}});
        let expected = json!({"active": {
            "timeout": "value should be between 0 and 65535",
            "healthy": {"interval": "expected a number", "http_statuses": [null, "expected an integer"]},
        }});
        assert_eq!(shaped(sent, None).1, expected);
    }

    #[test]
    fn what_was_stored_stays_where_nothing_is_sent() {
        let healthy = json!({"interval": 7, "http_statuses": []});
        let stored = json!({"active": {"timeout": 3, "healthy": healthy}, "passive": null});
        let (doc, problems) = shaped(json!({"active": {"healthy": {"interval": 8}}}), Some(stored));
        let expected =
            json!({"active": {"timeout": 3, "healthy": {"interval": 8, "http_statuses": []}}, "passive": null});
        assert_eq!((doc, problems), (expected, json!({})));
    }

    #[test]
    fn a_timestamp_inside_a_record_is_ignored() {
        assert_eq!(shaped(json!({"active": {"updated_at": 1}, "updated_at": 2}), None).1, json!({}));
    }
}
