//! The fields of a request's body: form, JSON or multipart, for plugins that look for a name in it.
//!
//! A body that cannot be parsed has no fields; the upstream gets it as it came. Removing a field leaves the rest of a
//! multipart body byte for byte, so files in it are not copied about.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use crate::entity::Doc;
use crate::plugin::given::{Given, form_without, in_form};

/// A parsed body.
pub enum Fields {
    Form(Bytes),
    Json(Doc),
    Multipart(Bytes, Vec<Part>),
}

/// One part of a multipart body, as ranges of it.
pub struct Part {
    name: Vec<u8>,
    /// From its delimiter to the next.
    whole: Range<usize>,
    value: Range<usize>,
}

impl Fields {
    /// By the `Content-Type`, as sent. `None`: not a type with fields, or not well formed.
    pub fn parse(content_type: &[u8], body: &Bytes) -> Option<Self> {
        let content_type = str::from_utf8(content_type).ok()?;
        let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Some(Self::Form(body.clone())),
            "application/json" => serde_json::from_slice(body).ok().map(Self::Json),
            "multipart/form-data" => {
                let parts = split_parts(body, parameter(parameters, "boundary")?.as_ref())?;
                Some(Self::Multipart(body.clone(), parts))
            }
            _ => None,
        }
    }

    /// What the body holds under `name`.
    pub fn given(&self, name: &str) -> Given<'_> {
        match self {
            Self::Form(body) => in_form(body, name),
            Self::Json(doc) => match doc.get(name) {
                None | Some(Value::Null) => Given::Nothing,
                Some(Value::String(text)) => Given::Text(Cow::Borrowed(text.as_bytes())),
                Some(Value::Bool(_) | Value::Number(_)) => Given::NoText,
                Some(Value::Array(_) | Value::Object(_)) => Given::Several,
            },
            Self::Multipart(body, parts) => {
                let named = parts.iter().filter(|part| part.name == name.as_bytes());
                Given::among(named.map(|part| Given::Text(Cow::Borrowed(&body[part.value.clone()]))))
            }
        }
    }

    /// The body without what is called `name`, in its own format.
    pub fn without(self, name: &str) -> Bytes {
        match self {
            Self::Form(body) => form_without(&body, name).into(),
            Self::Json(mut doc) => {
                doc.shift_remove(name);
                Value::Object(doc).to_string().into()
            }
            Self::Multipart(body, parts) => {
                let mut rest = Vec::with_capacity(body.len());
                let mut kept_to = 0;
                for part in parts.iter().filter(|part| part.name == name.as_bytes()) {
                    rest.extend_from_slice(&body[kept_to..part.whole.start]);
                    kept_to = part.whole.end;
                }
                rest.extend_from_slice(&body[kept_to..]);
                rest.into()
            }
        }
    }
}

/// The parts of a multipart body. `None`: no closing delimiter, or a part without a name.
fn split_parts(body: &[u8], boundary: &str) -> Option<Vec<Part>> {
    let delimiter = ["--", boundary].concat();
    let mut parts = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    let mut start = 0;
    // Delimiters stand at the beginning of a line, so a walk over lines is linear whatever the boundary is.
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        if let Some(rest) = line.strip_prefix(delimiter.as_bytes()) {
            let rest = rest.trim_ascii();
            if rest.is_empty() || rest == b"--" {
                if let Some((whole, content)) = open {
                    parts.push(read_part(body, whole, content, start)?);
                }
                if !rest.is_empty() {
                    return Some(parts);
                }
                open = Some((start, end));
            }
        }
        start = end;
    }
    None
}

/// The part from the delimiter at `whole` with `content` behind it, up to the delimiter at `next`.
fn read_part(body: &[u8], whole: usize, content: usize, next: usize) -> Option<Part> {
    let mut name = None;
    let mut at = content;
    loop {
        let line = body[at..next].split_inclusive(|byte| *byte == b'\n').next()?;
        at += line.len();
        let line = str::from_utf8(line).unwrap_or_default().trim_ascii();
        if line.is_empty() {
            break;
        }
        if let Some((header, value)) = line.split_once(':')
            && header.eq_ignore_ascii_case("content-disposition")
        {
            name = parameter(value.split_once(';')?.1, "name");
        }
    }
    let value = body[at..next].strip_suffix(b"\n").unwrap_or_default();
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    Some(Part { name: name?.into_owned().into_bytes(), whole: whole..next, value: at..at + value.len() })
}

/// The value of a parameter in `; a=b; c="d"`.
fn parameter<'a>(mut parameters: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    loop {
        let (name, rest) = parameters.split_once('=')?;
        let name = name.trim_matches(|c: char| c == ';' || c.is_ascii_whitespace());
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                (Cow::Borrowed(rest[..end].trim()), &rest[end..])
            }
        };
        if name.eq_ignore_ascii_case(wanted) && !value.is_empty() {
            return Some(value);
        }
        parameters = rest;
    }
}

/// Text up to the closing quote, and what is behind it.
fn unquote(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = quoted.find(['"', '\\'])?;
    if quoted.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&quoted[..end]), &quoted[end + 1..]));
    }
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(text), &quoted[at + 1..])),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => text.push(character),
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MULTIPART: &str = "multipart/form-data; boundary=\"b b\"";

    fn text(value: &str) -> Given<'_> {
        Given::Text(Cow::Borrowed(value.as_bytes()))
    }

    fn multipart(parts: &[(&str, &str)]) -> Bytes {
        let parts = parts.iter().map(|(name, value)| {
            format!("--b b\r\nContent-Disposition: form-data; name=\"{name}\"\r\nX: y\r\n\r\n{value}\r\n")
        });
        (parts.collect::<String>() + "--b b--\r\n").into()
    }

    #[test]
    fn each_format_has_its_fields() {
        let check = |content_type: &str, body: &str, expected: Given| {
            let fields = Fields::parse(content_type.as_bytes(), &body.to_owned().into());
            let given = fields.as_ref().map_or(Given::Nothing, |fields| fields.given("k"));
            assert_eq!(given, expected, "{content_type} {body}");
        };
        check("application/x-www-form-urlencoded", "a=1&k=v", text("v"));
        check("Application/JSON; charset=utf-8", r#"{"k":"v"}"#, text("v"));
        check("application/json", r#"{"k":["v"]}"#, Given::Several);
        check("application/json", r#"{"k":7}"#, Given::NoText);
        check("application/json", r#"{"k":null}"#, Given::Nothing);
        check("application/json", "[1]", Given::Nothing);
        check("application/json", "{broken", Given::Nothing);
        check("text/plain", "k=v", Given::Nothing);
        check(MULTIPART, str::from_utf8(&multipart(&[("a", "x\r\ny"), ("k", "v")])).unwrap(), text("v"));
        check(MULTIPART, str::from_utf8(&multipart(&[("k", "v"), ("k", "v")])).unwrap(), Given::Several);
        check(MULTIPART, "--b b\r\nContent-Disposition: form-data; name=k\r\n\r\nv", Given::Nothing);
        check("multipart/form-data", "--\r\n", Given::Nothing);
    }

    #[test]
    fn a_field_is_taken_out_in_the_format_of_the_body() {
        let check = |content_type: &str, body: Bytes, expected: Bytes| {
            assert_eq!(Fields::parse(content_type.as_bytes(), &body).unwrap().without("k"), expected);
        };
        check("application/x-www-form-urlencoded", "a=1&k=v&b".into(), "a=1&b=".into());
        check("application/json", r#"{"b":1,"k":"v","a":[2]}"#.into(), r#"{"b":1,"a":[2]}"#.into());
        check(MULTIPART, multipart(&[("a", "1"), ("k", "v"), ("b", "")]), multipart(&[("a", "1"), ("b", "")]));
        check(MULTIPART, multipart(&[("k", "v")]), multipart(&[]));
        check(MULTIPART, multipart(&[("a", "1")]), multipart(&[("a", "1")]));
    }

    #[test]
    fn quoted_parameters_are_unescaped() {
        let check = |parameters: &str, expected: Option<&str>| {
            assert_eq!(parameter(parameters, "name").as_deref(), expected, "{parameters}");
        };
        check(" form-data; NAME=\"a\\\"b\"; x=1", None);
        check(" NAME=\"a\\\"b\"; x=1", Some("a\"b"));
        check(" filename=\"x; name=y\"; name=z", Some("z"));
        check(" name=\"open", None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_body_or_none(content_type in ".{0,40}", body in proptest::collection::vec(0u8..=255, 0..200)) {
            let body = Bytes::from(body);
            for content_type in [content_type.as_str(), "multipart/form-data; boundary=-", "application/json"] {
                if let Some(fields) = Fields::parse(content_type.as_bytes(), &body) {
                    fields.given("k");
                    fields.without("k");
                }
            }
        }
    }
}
