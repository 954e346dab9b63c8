//! Bodies of POST, PUT and PATCH as documents.
//!
//! JSON is taken literally; forms of both kinds become pairs that the entity's declaration types later. The caller has
//! bounded the bytes; here the number of arguments is.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use multer::Multipart;
use serde_json::Value;

use crate::admin::query::ARGUMENTS_MAX;
use crate::admin::reply::{self, Reply};
use crate::entity::declare::Plugins;
use crate::entity::form::{self, Pairs};
use crate::entity::{Doc, Kind};
use crate::pace;

/// What a client says its body is. Kong: a prefix of the header decides, letter case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Form,
    Multipart,
    /// Understood by `/config` alone.
    Yaml,
    /// Neither a type nor a body.
    Nothing,
}

/// A body that was understood, not yet typed when it is a form.
#[derive(Debug, Default)]
pub(crate) struct Input {
    doc: Doc,
    is_form: bool,
}

/// Why a body is no document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadBody {
    Json,
    Form(String),
    TooManyArguments,
}

impl Media {
    /// `None`: not a type that the Admin API reads.
    pub(crate) fn of(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let Some(value) = headers.get(CONTENT_TYPE) else { return body.is_empty().then_some(Self::Nothing) };
        let known = [
            (&b"application/json"[..], Self::Json),
            (b"application/x-www-form-urlencoded", Self::Form),
            (b"multipart/form-data", Self::Multipart),
            (b"application/yaml", Self::Yaml),
            (b"text/yaml", Self::Yaml),
        ];
        known.into_iter().find(|(prefix, _)| value.as_bytes().starts_with(prefix)).map(|(_, media)| media)
    }
}

impl Input {
    pub(crate) async fn read(media: Media, headers: &HeaderMap, body: Bytes) -> Result<Self, BadBody> {
        let pairs = match media {
            Media::Nothing => return Ok(Self::default()),
            Media::Json | Media::Yaml => return Ok(Self { doc: json_object(&body)?, is_form: false }),
            Media::Form => urlencoded(&body)?,
            Media::Multipart => multipart(headers, body).await?,
        };
        Ok(Self { doc: form::expand(pairs).map_err(BadBody::Form)?, is_form: true })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.doc.contains_key(name)
    }

    /// The document of an entity; `plugin_name` types the `config` of a plugin whose form does not name it.
    pub(crate) fn of_kind(self, kind: Kind, plugins: &Plugins, plugin_name: Option<&str>) -> Doc {
        if self.is_form { form::coerce(kind, self.doc, plugins, plugin_name) } else { self.doc }
    }

    /// The document of something that is no entity.
    pub(crate) fn plain(self) -> Doc {
        if self.is_form { form::coerce_plain(self.doc) } else { self.doc }
    }
}

impl BadBody {
    pub(crate) fn reply(&self) -> Reply {
        reply::bad_request(match self {
            Self::Json => "Cannot parse JSON body",
            Self::Form(why) => why,
            Self::TooManyArguments => "Too many arguments",
        })
    }
}

/// Kong: an empty array counts as an empty object. Anything else that is no object is a 500 there and 400 here.
fn json_object(body: &[u8]) -> Result<Doc, BadBody> {
    match serde_json::from_reader(pace::reader(body)) {
        Ok(Value::Object(doc)) => Ok(doc),
        Ok(Value::Array(items)) if items.is_empty() => Ok(Doc::new()),
        _ => Err(BadBody::Json),
    }
}

fn urlencoded(body: &[u8]) -> Result<Pairs, BadBody> {
    if body.is_empty() {
        return Ok(Pairs::new());
    }
    if body.split(|byte| *byte == b'&').count() > ARGUMENTS_MAX {
        return Err(BadBody::TooManyArguments);
    }
    Ok(form_urlencoded::parse(body).into_owned().collect())
}

/// Kong: of parts with one name the last survives. Here all do, as in the other form.
async fn multipart(headers: &HeaderMap, body: Bytes) -> Result<Pairs, BadBody> {
    let mut pairs = Pairs::new();
    if body.is_empty() {
        return Ok(pairs);
    }
    let broken = |_| BadBody::Form("Cannot parse multipart body".to_owned());
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let mut parts = Multipart::new(stream::once(async { Ok::<_, Infallible>(body) }), boundary);
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        if pairs.len() == ARGUMENTS_MAX {
            return Err(BadBody::TooManyArguments);
        }
        let Some(name) = part.name().map(str::to_owned) else { continue };
        let value = part.bytes().await.map_err(broken)?;
        pairs.push((name, String::from_utf8_lossy(&value).into_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn a_media_type_is_known_by_its_prefix() {
        let check = |content_type, expected| assert_eq!(Media::of(&headers(content_type), b"x"), expected);
        check("application/json", Some(Media::Json));
        check("application/jsonfoo; charset=x", Some(Media::Json));
        check("APPLICATION/JSON", None);
        check("text/plain", None);
        check("multipart/form-data; boundary=x", Some(Media::Multipart));
        assert_eq!(Media::of(&HeaderMap::new(), b""), Some(Media::Nothing));
        assert_eq!(Media::of(&HeaderMap::new(), b"x"), None);
    }

    #[test]
    fn only_an_object_is_a_document() {
        let check = |text: &str, expected: Result<&str, BadBody>| {
            let got = json_object(text.as_bytes()).map(|doc| Value::Object(doc).to_string());
            assert_eq!(got, expected.map(str::to_owned), "{text}");
        };
        check(r#"{"a":1}"#, Ok(r#"{"a":1}"#));
        check("[]", Ok("{}"));
        for text in ["", "{", "null", "5", "\"x\"", "[1]", "{}x"] {
            check(text, Err(BadBody::Json));
        }
    }

    #[tokio::test]
    async fn parts_of_a_multipart_body_become_pairs() {
        let headers = headers("multipart/form-data; boundary=b");
        let body = "--b\r\nContent-Disposition: form-data; name=\"tags[]\"\r\n\r\nx\r\n\
            --b\r\nContent-Disposition: form-data; name=\"tags[]\"; filename=\"f\"\r\n\r\ny\r\nz\r\n--b--\r\n";
        let pairs = multipart(&headers, Bytes::from(body)).await;
        let expected = vec![("tags[]".to_owned(), "x".to_owned()), ("tags[]".to_owned(), "y\r\nz".to_owned())];
        assert_eq!(pairs, Ok(expected));
        assert_eq!(multipart(&headers, Bytes::new()).await, Ok(Pairs::new()));
        let cut = multipart(&headers, Bytes::from("--b\r\nContent-Disp")).await;
        assert_eq!(cut, Err(BadBody::Form("Cannot parse multipart body".to_owned())));
    }

    #[test]
    fn a_form_has_at_most_a_thousand_arguments() {
        assert_eq!(urlencoded("a=1&".repeat(1000).as_bytes()), Err(BadBody::TooManyArguments));
        assert_eq!(urlencoded(b"").map(|pairs| pairs.len()), Ok(0));
    }
}
