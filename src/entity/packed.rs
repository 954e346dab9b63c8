//! Documents in memory: the members in a row, each as its field's number and what cannot be told from the declaration.
//!
//! A route is mostly names of fields, nulls and defaults: of 500 bytes of JSON a fifth says anything. Packed, a member that is
//! null or the field's default is one byte, and an id is 16 bytes. What is packed never leaves the process: stores and
//! peers get the JSON text, which is the same, byte for byte, as the one of the document. Compressing the text lost: it
//! needs an example to learn from, and a hundred times the time.

use std::fmt::Write;

use serde_json::Value;
use uuid::Uuid;

use crate::entity::declare::{Field, Literal, Type};
use crate::entity::{Doc, Kind};

/// Forms of a member; its first byte is four times the field's number, and one of these.
const NULL: u8 = 0;
/// The default of its field.
const DEFAULT: u8 = 1;
/// JSON text, up to `END`.
const TEXT: u8 = 2;
/// The 16 bytes of an id: as a text, or of the entity that is referred to.
const ID: u8 = 3;

/// The first byte of a member that is not declared: its name and value follow as JSON text, up to `END`.
const UNKNOWN: u8 = u8::MAX;
/// Is in no JSON text.
const END: u8 = 0;
/// Fields beyond these count as not declared.
const FIELDS: usize = 63;

/// Packs a document of a kind.
pub(super) fn pack(kind: Kind, doc: &Doc) -> Box<[u8]> {
    let mut packed = Vec::with_capacity(256);
    for (name, value) in doc {
        let field = kind.fields.iter().take(FIELDS).enumerate().find(|(_, field)| field.name == name);
        let Some((Ok(number), field)) = field.map(|(at, field)| (u8::try_from(at), field)) else {
            packed.push(UNKNOWN);
            json(&mut packed, name);
            packed.push(b':');
            json(&mut packed, value);
            packed.push(END);
            continue;
        };
        let mut member = |form: u8| packed.push(number * 4 + form);
        if value.is_null() {
            member(NULL);
        } else if field.default.is_some_and(|default| is(default, value)) {
            member(DEFAULT);
        } else if let Some(id) = id_in(field, value) {
            member(ID);
            packed.extend(id.as_bytes());
        } else {
            member(TEXT);
            json(&mut packed, value);
            packed.push(END);
        }
    }
    packed.into()
}

/// The JSON text of what was packed.
pub(super) fn text(kind: Kind, packed: &[u8]) -> String {
    let mut text = String::with_capacity(4 * packed.len() + 256);
    text.push('{');
    for (at, member) in (Members { kind, packed }).enumerate() {
        if at > 0 {
            text.push(',');
        }
        match member {
            Member::Of(field, value) => {
                let _ = write!(text, "\"{}\":", field.name);
                value.write(&mut text, field);
            }
            Member::Unknown(member) => text.push_str(member),
        }
    }
    text.push('}');
    text
}

/// The declared members that are wanted, and all that are not declared, as a tree.
pub(super) fn part(kind: Kind, packed: &[u8], wanted: impl Fn(&Field) -> bool) -> Doc {
    let mut doc = Doc::new();
    let mut text = String::new();
    for member in (Members { kind, packed }) {
        text.clear();
        match member {
            Member::Of(field, value) if wanted(field) => {
                value.write(&mut text, field);
                doc.insert(field.name.to_owned(), serde_json::from_str(&text).unwrap_or_default());
            }
            Member::Of(..) => {}
            Member::Unknown(member) => {
                let _ = write!(text, "{{{member}}}");
                doc.extend(serde_json::from_str::<Doc>(&text).unwrap_or_default());
            }
        }
    }
    doc
}

/// The members of what was packed.
struct Members<'p> {
    kind: Kind,
    packed: &'p [u8],
}

enum Member<'p> {
    Of(&'static Field, Packed<'p>),
    /// Name and value as JSON text.
    Unknown(&'p str),
}

enum Packed<'p> {
    Null,
    Default,
    Id(Uuid),
    Text(&'p str),
}

impl<'p> Iterator for Members<'p> {
    type Item = Member<'p>;

    fn next(&mut self) -> Option<Member<'p>> {
        let (&first, rest) = self.packed.split_first()?;
        self.packed = rest;
        if first == UNKNOWN {
            return Some(Member::Unknown(up_to_end(&mut self.packed)));
        }
        let field = self.kind.declaration().fields.get(usize::from(first / 4))?;
        let value = match first % 4 {
            NULL => Packed::Null,
            DEFAULT => Packed::Default,
            ID => {
                let (bytes, rest) = self.packed.split_first_chunk()?;
                self.packed = rest;
                Packed::Id(Uuid::from_bytes(*bytes))
            }
            _ => Packed::Text(up_to_end(&mut self.packed)),
        };
        Some(Member::Of(field, value))
    }
}

impl Packed<'_> {
    /// Writes the value as JSON text.
    fn write(&self, text: &mut String, field: &Field) {
        let _ = match (self, field.kind) {
            (Packed::Null, _) => write!(text, "null"),
            (Packed::Default, _) => field.default.map_or(Ok(()), |default| literal(text, default)),
            (Packed::Id(id), Type::Foreign { .. }) => write!(text, "{{\"id\":\"{id}\"}}"),
            (Packed::Id(id), _) => write!(text, "\"{id}\""),
            (Packed::Text(value), _) => write!(text, "{value}"),
        };
    }
}

fn json(packed: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Neither a tree of values nor memory refuses anything.
    let _ = serde_json::to_writer(packed, value);
}

fn up_to_end<'p>(packed: &mut &'p [u8]) -> &'p str {
    let len = memchr::memchr(END, packed).unwrap_or(packed.len());
    let (taken, rest) = packed.split_at(len);
    *packed = rest.get(1..).unwrap_or_default();
    std::str::from_utf8(taken).unwrap_or_default()
}

/// The id that is all there is in a value, written as this program writes ids.
fn id_in(field: &Field, value: &Value) -> Option<Uuid> {
    let text = match (&field.kind, value) {
        (Type::Foreign { .. }, Value::Object(doc)) if doc.len() == 1 => doc.get("id")?.as_str()?,
        (Type::String, Value::String(text)) => text,
        _ => return None,
    };
    let id = Uuid::try_parse(text).ok()?;
    (*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text).then_some(id)
}

/// Whether the value's text is that of the literal. Never for fractions: of those two may be equal and look different.
fn is(literal: Literal, value: &Value) -> bool {
    let all = |values: &[Value], count: usize, same: &dyn Fn(usize, &Value) -> bool| {
        values.len() == count && values.iter().enumerate().all(|(at, value)| same(at, value))
    };
    match (literal, value) {
        (Literal::Str(text), Value::String(value)) => text == value,
        (Literal::Int(number), Value::Number(value)) => value.as_i64() == Some(number),
        (Literal::Bool(flag), Value::Bool(value)) => flag == *value,
        (Literal::Strs(texts), Value::Array(values)) => {
            all(values, texts.len(), &|at, value| value.as_str() == texts.get(at).copied())
        }
        (Literal::Ints(numbers), Value::Array(values)) => {
            all(values, numbers.len(), &|at, value| value.as_i64() == numbers.get(at).copied())
        }
        _ => false,
    }
}

fn literal(text: &mut String, literal: Literal) -> std::fmt::Result {
    match literal {
        Literal::Int(number) => write!(text, "{number}"),
        Literal::Bool(flag) => write!(text, "{flag}"),
        other => write!(text, "{}", other.value()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(kind: Kind, doc: &Value) -> usize {
        let packed = pack(kind, doc.as_object().unwrap());
        assert_eq!(text(kind, &packed), doc.to_string());
        let tree: Doc = serde_json::from_str(&doc.to_string()).unwrap();
        assert_eq!(part(kind, &packed, |_| true), tree);
        let unnamed = tree.into_iter().filter(|(name, _)| name != "name" || kind.field("name").is_none());
        assert_eq!(part(kind, &packed, |field| field.name != "name"), unnamed.collect());
        packed.len()
    }

    #[test]
    fn a_document_comes_back_byte_for_byte() {
        let id = "00000000-0000-0000-0000-00000000000a";
        for doc in [
            json!({}),
            json!({"id": id, "name": "a\u{0}\"b", "paths": ["/a", "/é"], "hosts": null}),
            json!({"service": {"id": id}, "methods": [], "strip_path": true, "preserve_host": true}),
            json!({"service": {"id": id, "name": "x"}, "protocols": ["http", "https"], "name": id}),
            json!({"id": "00000000-0000-0000-0000-00000000000A", "name": "00000000000000000000000000000001"}),
            json!({"protocols": ["https", "http"], "https_redirect_status_code": 426, "regex_priority": 0.0}),
            json!({"newer \"field\"": {"a": [1.5, null]}, "name": "after it", "": 1e300}),
        ] {
            for kind in Kind::all() {
                check(*kind, &doc);
            }
            check(Kind::of_name("things_of_a_newer_program").unwrap(), &doc);
        }
    }

    #[test]
    fn what_the_declaration_says_takes_a_byte() {
        let mut doc = Doc::new();
        for field in Kind::ROUTES.fields {
            doc.insert(field.name.to_owned(), field.default.map_or(Value::Null, |default| default.value()));
        }
        assert_eq!(check(Kind::ROUTES, &Value::Object(doc)), Kind::ROUTES.fields.len());
    }

    proptest! {
        #[test]
        fn any_document_comes_back(
            members in prop::collection::vec((0..80_usize, ".{0,3}", any::<i64>(), any::<f64>(), 0..8_u8), 0..12),
        ) {
            for kind in Kind::all() {
                let mut doc = Doc::new();
                for (at, string, integer, number, form) in &members {
                    let field = kind.fields.get(*at);
                    let value = match form {
                        0 => Value::Null,
                        1 => json!(integer),
                        2 => json!(number),
                        3 => json!([string]),
                        4 => json!({ "id": Uuid::from_u128(integer.unsigned_abs().into()) }),
                        5 => json!(Uuid::from_u128(integer.unsigned_abs().into())),
                        6 => field.and_then(|field| field.default).map_or(Value::Null, |default| default.value()),
                        _ => json!(string),
                    };
                    doc.insert(field.map_or_else(|| string.clone(), |field| field.name.to_owned()), value);
                }
                check(*kind, &Value::Object(doc));
            }
        }
    }
}
