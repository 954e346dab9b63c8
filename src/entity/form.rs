//! Forms to documents: keys expanded to a tree, values typed by the declaration.
//!
//! Two steps, because a plugin's form can be typed only once its tree has told the plugin's name. Typing by how a value
//! looks lost: a username `123` has to stay text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::entity::declare::{Field, Plugins, Shorthand, Type, Variants};
use crate::entity::{Doc, Kind};

/// What a form said: names and values in the order sent, values as text.
pub type Pairs = Vec<(String, String)>;

/// Arguments of one form; more are refused, as Kong does.
pub const ARGUMENTS_MAX: usize = 1000;
/// Steps of one name; Kong's deepest field is six steps down.
const STEPS_MAX: usize = 32;

/// Expands `a.b`, `a[]`, `a[1]`, `a[key]` and repeats; leaves are strings, an empty one null. A list whose positions
/// do not run from 1 without a gap becomes an object of them, which no list field takes.
/// `Err`: a name that cannot be expanded, as text for the client.
pub fn expand(pairs: Pairs) -> Result<Doc, String> {
    if pairs.len() > ARGUMENTS_MAX {
        return Err("Too many arguments".to_owned());
    }
    let mut root = Node::Map(Vec::new());
    for (name, text) in pairs {
        let name = brackets(&name);
        let steps = steps(&name).ok_or_else(|| refusal(&name))?;
        let leaf = if text.is_empty() { Value::Null } else { Value::String(text) };
        root.insert(&steps, leaf).ok_or_else(|| refusal(&name))?;
    }
    match root.into_value() {
        Value::Object(doc) => Ok(doc),
        _ => Ok(Doc::new()),
    }
}

/// Types the leaves of an expanded form by the fields of `kind`. `plugin_name` types the `config` of a plugin whose
/// form does not name it (PATCH).
pub fn coerce(kind: Kind, tree: Doc, plugins: &Plugins, plugin_name: Option<&str>) -> Doc {
    let named = tree.get("name").and_then(Value::as_str).or(plugin_name).and_then(|name| plugins.named(name));
    let plugin = named.filter(|_| matches!(kind.variants, Variants::ByPlugin));
    let typed = tree.into_iter().map(|(name, value)| {
        let value = match (&*name, plugin) {
            ("config", Some(plugin)) => typed(&Type::Record(&plugin.config), value),
            ("ttl", _) if kind.ttl => typed(&Type::Integer, value),
            _ => member(kind.fields, kind.shorthands, &name, value),
        };
        (name, value)
    });
    typed.collect()
}

/// The simpler typing of endpoints that are no entities: `true` and `false` to booleans.
pub fn coerce_plain(tree: Doc) -> Doc {
    tree.into_iter().map(|(name, value)| (name, plain(value))).collect()
}

/// One step of a name.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Name(&'a str),
    /// `[]`
    Append,
    /// `[n]`
    Place(u32),
}

/// What stands at one place of the tree.
enum Node {
    Leaf(Value),
    List(BTreeMap<u32, Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn new(steps: &[Step<'_>], leaf: Value) -> Option<Self> {
        let mut node = match steps.first() {
            None => return Some(Self::Leaf(leaf)),
            Some(Step::Name(_)) => Self::Map(Vec::new()),
            Some(Step::Append | Step::Place(_)) => Self::List(BTreeMap::new()),
        };
        node.insert(steps, leaf)?;
        Some(node)
    }

    /// `None`: the place is taken by something of another shape.
    fn insert(&mut self, steps: &[Step<'_>], leaf: Value) -> Option<()> {
        match (steps.split_first(), self) {
            (Some((Step::Name(name), rest)), Self::Map(members)) => {
                match members.iter_mut().find(|(known, _)| known == name) {
                    Some((_, node)) => return node.insert(rest, leaf),
                    None => members.push(((*name).to_owned(), Self::new(rest, leaf)?)),
                }
            }
            (Some((Step::Name(_), _)), _) | (_, Self::Map(_)) => return None,
            (Some((Step::Place(place), rest)), node) => {
                let mut list = node.take_list();
                let taken = match list.get_mut(place) {
                    Some(node) => node.insert(rest, leaf),
                    None => Self::new(rest, leaf).map(|new| drop(list.insert(*place, new))),
                };
                *node = Self::List(list);
                return taken;
            }
            (Some((Step::Append, rest)), node) => node.append(Self::new(rest, leaf)?),
            (None, node) => node.append(Self::Leaf(leaf)),
        }
        Some(())
    }

    fn append(&mut self, node: Self) {
        let mut list = self.take_list();
        let place = list.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        list.insert(place, node);
        *self = Self::List(list);
    }

    /// What stands here as a list, for the caller to put back: a single value becomes the first of one.
    fn take_list(&mut self) -> BTreeMap<u32, Node> {
        match std::mem::replace(self, Self::List(BTreeMap::new())) {
            Self::List(list) => list,
            single => BTreeMap::from([(1, single)]),
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::Map(members) => members.into_iter().map(|(name, node)| (name, node.into_value())).collect(),
            Self::List(list) if list.keys().copied().eq(1..=list.len() as u32) => {
                list.into_values().map(Self::into_value).collect()
            }
            Self::List(list) => list.into_iter().map(|(place, node)| (place.to_string(), node.into_value())).collect(),
        }
    }
}

/// Brackets that were percent-encoded once more than the rest of the name.
fn brackets(name: &str) -> String {
    let mut out = name.to_owned();
    for (encoded, bracket) in [("%5B", "["), ("%5b", "["), ("%5D", "]"), ("%5d", "]")] {
        if out.contains(encoded) {
            out = out.replace(encoded, bracket);
        }
    }
    out
}

/// Kong files a name with a dot at either end under another one; we refuse it, and any other empty step.
fn steps(name: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut rest = name;
    while steps.len() < STEPS_MAX {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (word, mut tail) = rest.split_at(end);
        if word.is_empty() {
            return None;
        }
        steps.push(Step::Name(word));
        while let Some(inside) = tail.strip_prefix('[') {
            let (key, after) = inside.split_once(']')?;
            steps.push(bracketed(key));
            tail = after;
        }
        match tail.strip_prefix('.') {
            Some(next) => rest = next,
            None if tail.is_empty() && steps.len() <= STEPS_MAX => return Some(steps),
            None => return None,
        }
    }
    None
}

fn bracketed(key: &str) -> Step<'_> {
    if key.is_empty() {
        return Step::Append;
    }
    let place = (key.bytes().all(|byte| byte.is_ascii_digit())).then(|| key.parse().ok()).flatten();
    place.map_or(Step::Name(key), Step::Place)
}

fn refusal(name: &str) -> String {
    let shown: String = name.chars().take(100).collect();
    format!("cannot make sense of the argument name '{shown}'")
}

fn member(fields: &[Field], shorthands: &[Shorthand], name: &str, value: Value) -> Value {
    let field = fields.iter().find(|field| field.name == name).map(|field| &field.kind);
    let kind = field.or_else(|| shorthands.iter().find(|short| short.name == name).map(|short| &short.kind));
    match kind {
        Some(kind) => typed(kind, value),
        None => value,
    }
}

fn members(fields: &[Field], shorthands: &[Shorthand], doc: Doc) -> Value {
    let typed = doc.into_iter().map(|(name, value)| {
        let value = member(fields, shorthands, &name, value);
        (name, value)
    });
    typed.collect()
}

/// `value` as a field of this type would have it; what does not fit stays, for the checks to refuse.
fn typed(kind: &Type, value: Value) -> Value {
    match (*kind, value) {
        (Type::Integer | Type::Number, Value::String(text)) => number(&text).unwrap_or(Value::String(text)),
        (Type::Boolean, value @ Value::String(_)) => plain(value),
        (Type::Array(element) | Type::Set(element), Value::Array(items)) => {
            items.into_iter().map(|item| typed(&element.kind, item)).collect()
        }
        (Type::Array(element) | Type::Set(element), text @ Value::String(_)) => {
            Value::Array(vec![typed(&element.kind, text)])
        }
        (Type::Map { values, .. }, Value::Object(doc)) => {
            doc.into_iter().map(|(name, value)| (name, typed(&values.kind, value))).collect()
        }
        (Type::Record(record), Value::Object(doc)) => members(record.fields, record.shorthands, doc),
        (Type::Foreign { kind, .. }, Value::Object(doc)) => match Kind::named(kind) {
            Some(target) => members(target.fields, target.shorthands, doc),
            None => Value::Object(doc),
        },
        (_, value) => value,
    }
}

fn plain(value: Value) -> Value {
    match value {
        Value::String(text) if text == "true" => Value::Bool(true),
        Value::String(text) if text == "false" => Value::Bool(false),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(doc) => doc.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        other => other,
    }
}

/// Decimal with fraction and exponent, or hexadecimal, blanks around it allowed: what Kong's language reads as a number.
fn number(text: &str) -> Option<Value> {
    let text = text.trim_ascii();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let all_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        return all_hex.then(|| i64::from_str_radix(hex, 16).ok())?.map(|number| Value::from(sign * number));
    }
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    match text.strip_prefix('+').unwrap_or(text).parse::<i64>() {
        Ok(whole) => Some(whole.into()),
        // The first character rules out `inf` and `nan`; too great a number is no JSON number.
        Err(_) => serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number),
    }
}
