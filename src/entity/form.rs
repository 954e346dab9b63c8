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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entity::declare::{Literal, PluginDeclaration, Record};

    static PLUGIN: PluginDeclaration = PluginDeclaration {
        name: "limits",
        priority: 1,
        config: Record {
            fields: &[
                Field::number("minute"),
                Field::boolean("hide").default(Literal::Bool(false)),
                Field::array("names", &TEXT),
                Field::record("redis", &REDIS),
                Field::map("lua", &TEXT, &TEXT),
            ],
            shorthands: &[Shorthand::alias("redis_port", Type::Integer, &["redis", "port"], "old")],
            rules: &[],
        },
        rules: &[],
        consumer_scope: true,
        protocols: &[],
        notices: &[],
    };
    static REDIS: Record =
        Record { fields: &[Field::string("host"), Field::integer("port")], shorthands: &[], rules: &[] };
    static TEXT: Field = Field::string("");

    fn pairs(form: &[(&str, &str)]) -> Pairs {
        form.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    fn expands(form: &[(&str, &str)], expected: Value) {
        assert_eq!(expand(pairs(form)).map(Value::Object), Ok(expected), "{form:?}");
    }

    fn types(kind: Kind, form: &[(&str, &str)], expected: Value) {
        let tree = expand(pairs(form)).unwrap_or_else(|text| panic!("{form:?}: {text}"));
        let typed = coerce(kind, tree, &Plugins::new([&PLUGIN]), None);
        assert_eq!(Value::Object(typed), expected, "{form:?}");
    }

    #[test]
    fn names_expand_to_a_tree() {
        expands(&[("name", "x")], json!({"name": "x"}));
        expands(&[("name", "")], json!({"name": null}));
        expands(&[("hosts", "a"), ("hosts", "b"), ("hosts", "c")], json!({"hosts": ["a", "b", "c"]}));
        expands(&[("hosts[]", "a"), ("hosts[]", "b")], json!({"hosts": ["a", "b"]}));
        expands(&[("hosts[2]", "b"), ("hosts[1]", "a")], json!({"hosts": ["a", "b"]}));
        expands(&[("hosts", "a"), ("hosts[]", "b")], json!({"hosts": ["a", "b"]}));
        expands(&[("tags[]", "a"), ("tags[2]", "b")], json!({"tags": ["a", "b"]}));
        expands(&[("tags%5B%5D", "a"), ("tags%5b2%5d", "b")], json!({"tags": ["a", "b"]}));
        expands(&[("tags[1]", "a"), ("tags[2]", "b"), ("tags[2]", "c")], json!({"tags": ["a", ["b", "c"]]}));
        expands(&[("config.a.b", "x"), ("config.c", "y")], json!({"config": {"a": {"b": "x"}, "c": "y"}}));
        expands(&[("headers.x-env", "a"), ("headers[x-b]", "b")], json!({"headers": {"x-env": "a", "x-b": "b"}}));
        expands(&[("headers.x[]", "1"), ("headers.x[]", "2")], json!({"headers": {"x": ["1", "2"]}}));
        expands(&[("c.x[some.key]", "v")], json!({"c": {"x": {"some.key": "v"}}}));
        expands(
            &[("s[1].ip", "i"), ("s[1].port", "80"), ("s[2].port", "81")],
            json!({"s": [{"ip": "i", "port": "80"}, {"port": "81"}]}),
        );
    }

    #[test]
    fn positions_with_a_gap_make_no_list() {
        expands(&[("tags[0]", "a")], json!({"tags": {"0": "a"}}));
        expands(&[("tags[1]", "a"), ("tags[3]", "b")], json!({"tags": {"1": "a", "3": "b"}}));
        expands(&[("tags[99999999999]", "a")], json!({"tags": {"99999999999": "a"}}));
    }

    #[test]
    fn names_that_cannot_be_expanded() {
        for name in ["", ".", ".a", "..a", "a.", "a..b", "a[", "a[b", "a]b[", "[a]", "a[b]c", "a.[b]"] {
            let said = expand(pairs(&[(name, "x")]));
            assert_eq!(said, Err(format!("cannot make sense of the argument name '{name}'")));
        }
        for clash in [["a", "a.b"], ["a.b", "a"], ["a[]", "a.b"], ["a.b", "a[1]"]] {
            assert!(expand(clash.map(|name| (name.to_owned(), "x".to_owned())).to_vec()).is_err(), "{clash:?}");
        }
        assert!(expand(pairs(&[(&"a.".repeat(31), "x"), ("b", "x")])).is_err());
        expands(&[(&format!("{}b", "a.".repeat(2)), "x")], json!({"a": {"a": {"b": "x"}}}));
        assert!(expand(pairs(&[(&format!("{}b", "a.".repeat(32)), "x")])).is_err());
        assert!(expand(pairs(&[(&format!("a{}", "[]".repeat(40)), "x")])).is_err());
        assert_eq!(expand(vec![("a".to_owned(), String::new()); 1001]), Err("Too many arguments".to_owned()));
    }

    #[test]
    fn values_take_the_type_of_their_field() {
        types(
            Kind::SERVICES,
            &[("name", "7"), ("port", "8080"), ("retries", "0x10"), ("enabled", "false"), ("tags", "7"), ("path", "")],
            json!({"name": "7", "port": 8080, "retries": 16, "enabled": false, "tags": ["7"], "path": null}),
        );
        types(
            Kind::SERVICES,
            &[("port", "many"), ("enabled", "1"), ("colour", "5"), ("tls_verify", "True")],
            json!({"port": "many", "enabled": "1", "colour": "5", "tls_verify": "True"}),
        );
        types(Kind::SERVICES, &[("host", "a"), ("host", "b")], json!({"host": ["a", "b"]}));
        types(Kind::SERVICES, &[("tags", "")], json!({"tags": null}));
        types(Kind::SERVICES, &[("url", "http://a"), ("ttl", "5")], json!({"url": "http://a", "ttl": "5"}));
        types(Kind::KEYAUTH_CREDENTIALS, &[("ttl", "5"), ("key", "5")], json!({"ttl": 5, "key": "5"}));
    }

    #[test]
    fn lists_maps_records_and_references_are_typed_inside() {
        types(
            Kind::ROUTES,
            &[("hosts", "a,b"), ("headers.x", "1"), ("headers[y]", "2"), ("service.name", "s"), ("service.port", "80")],
            json!({"hosts": ["a,b"], "headers": {"x": ["1"], "y": ["2"]}, "service": {"name": "s", "port": 80}}),
        );
        types(
            Kind::ROUTES,
            &[("sources[1].ip", "i"), ("sources[1].port", "80"), ("sources[2].port", "81")],
            json!({"sources": [{"ip": "i", "port": 80}, {"port": 81}]}),
        );
        types(
            Kind::PLUGINS,
            &[
                ("name", "limits"),
                ("config.minute", "0.5"),
                ("config.names", "a"),
                ("config.hide", "true"),
                ("config.redis.host", "1"),
                ("config.redis.port", "1"),
                ("config.redis_port", "2"),
                ("config.lua[my.key]", "return 1"),
            ],
            json!({"name": "limits", "config": {"minute": 0.5, "names": ["a"], "hide": true,
                "redis": {"host": "1", "port": 1}, "redis_port": 2, "lua": {"my.key": "return 1"}}}),
        );
    }

    #[test]
    fn a_config_is_typed_by_the_plugin_that_is_known() {
        let tree = || Doc::from_iter([("config".to_owned(), json!({"minute": "5"}))]);
        let plugins = Plugins::new([&PLUGIN]);
        assert_eq!(coerce(Kind::PLUGINS, tree(), &plugins, Some("limits"))["config"], json!({"minute": 5}));
        for unknown in [None, Some("none")] {
            assert_eq!(coerce(Kind::PLUGINS, tree(), &plugins, unknown)["config"], json!({"minute": "5"}));
        }
    }

    #[test]
    fn other_endpoints_type_booleans_only() {
        let tree = json!({"a": "true", "b": ["false", "1"], "c": {"d": "True"}});
        let Value::Object(tree) = tree else { unreachable!() };
        assert_eq!(Value::Object(coerce_plain(tree)), json!({"a": true, "b": [false, "1"], "c": {"d": "True"}}));
    }

    #[test]
    fn texts_that_are_numbers() {
        let rows = [
            ("80", Some(json!(80))),
            ("-3", Some(json!(-3))),
            ("+3", Some(json!(3))),
            (" 5 ", Some(json!(5))),
            ("0x50", Some(json!(80))),
            ("-0xA", Some(json!(-10))),
            ("1e3", Some(json!(1000.0))),
            (".5", Some(json!(0.5))),
            ("5.", Some(json!(5.0))),
            ("9007199254740991", Some(json!(9_007_199_254_740_991_i64))),
            ("", None),
            ("-", None),
            ("0x", None),
            ("0x-1", None),
            ("nan", None),
            ("inf", None),
            ("1e999", None),
            ("1 2", None),
            ("--1", None),
            ("0xffffffffffffffffff", None),
        ];
        for (text, expected) in rows {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_form_is_survived(
            form in prop::collection::vec(("[a-c.\\[\\]0-3%5BbD]{0,10}|\\PC{0,8}", "[0-9a-fxe.+-]{0,6}|\\PC{0,4}"), 0..12),
            kind in prop::sample::select(Kind::all().to_vec()),
        ) {
            if let Ok(tree) = expand(form) {
                coerce_plain(tree.clone());
                let typed = coerce(kind, tree.clone(), &Plugins::new([&PLUGIN]), Some("limits"));
                prop_assert_eq!(typed.len(), tree.len());
            }
        }

        #[test]
        fn fields_of_a_kind_are_typed_whatever_they_hold(
            kind in prop::sample::select(Kind::all().to_vec()),
            at in any::<prop::sample::Index>(),
            tail in "(\\.[a-z]{1,3}|\\[[0-3]?\\]){0,3}",
            text in "[0-9a-fxe.+-]{0,6}|true|false|\\PC{0,4}",
        ) {
            let field = at.get(kind.declaration().fields);
            let tree = expand(vec![(format!("{}{tail}", field.name), text)]);
            let typed = tree.map(|tree| coerce(kind, tree, &Plugins::new([&PLUGIN]), Some("limits")));
            prop_assert!(typed.is_ok_and(|typed| typed.contains_key(field.name)));
        }
    }
}
