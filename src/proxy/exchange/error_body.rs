//! Bodies of errors that the gateway makes: which media type the client gets, and its text (`kong/proxy.md` §2).
//!
//! Two producers differ in how they choose: gateway code looks at `Accept` alone and falls back to JSON; what Kong's
//! HTTP server makes (`Producer::Server`) also looks at the request's own `Content-Type` and then at
//! `error_default_type`. Messages are ours or an operator's, never a client's, and stand in the templates unescaped.

use std::borrow::Cow;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::proxy::exchange::request_id::RequestId;

/// Who made an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    Gateway,
    Server,
}

/// The form of an error's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Html,
    Xml,
    Plain,
    /// Headers say it all.
    Grpc,
}

/// Whether a request says that it is gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|stated| stated.as_bytes().starts_with(b"application/grpc"))
}

impl Format {
    /// The format a client gets. `default_type` is the media type for a server-made error when the client states none.
    pub fn choose(producer: Producer, request: &HeaderMap, default_type: &str) -> Self {
        if let Some(asked) = preferred(request.get_all(ACCEPT).iter().map(HeaderValue::as_bytes)) {
            return Self::of(asked);
        }
        if producer == Producer::Gateway {
            return Self::Json;
        }
        let stated = request.get(CONTENT_TYPE).into_iter().map(HeaderValue::as_bytes);
        Self::of(preferred(stated).unwrap_or(default_type.as_bytes()))
    }

    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
            Self::Grpc => "application/grpc",
        })
    }

    /// The body, byte for byte as Kong writes it.
    pub fn render(self, message: &str, id: &RequestId) -> String {
        let id = id.as_str();
        match self {
            Self::Json => format!("{{\n  \"message\":\"{message}\",\n  \"request_id\":\"{id}\"\n}}"),
            Self::Html => html(message, id),
            Self::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{message}</message>\n  \
                 <requestid>{id}</requestid>\n</error>\n"
            ),
            Self::Plain => format!("{message}\nrequest_id: {id}\n"),
            Self::Grpc => String::new(),
        }
    }

    fn of(media_type: &[u8]) -> Self {
        const KNOWN: [(&[u8], Format); 5] = [
            (b"text/html", Format::Html),
            (b"application/xml", Format::Xml),
            (b"text/plain", Format::Plain),
            (b"text/*", Format::Plain),
            (b"application/grpc", Format::Grpc),
        ];
        let known = KNOWN.iter().find(|(name, _)| media_type.eq_ignore_ascii_case(name));
        known.map_or(Self::Json, |(_, format)| *format)
    }
}

/// The text of a status for which the code has none of its own.
pub fn default_message(status: u16) -> Cow<'static, str> {
    match DEFAULTS.binary_search_by_key(&status, |(known, _)| *known) {
        Ok(found) => Cow::Borrowed(DEFAULTS[found].1),
        Err(_) => Cow::Owned(format!("The upstream server responded with {status}")),
    }
}

/// The media type with the strictly highest quality, the first of equals.
fn preferred<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let mut best: Option<(&[u8], u16)> = None;
    for item in values.flat_map(|value| value.split(|&byte| byte == b',')) {
        let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next().unwrap_or_default();
        let quality = parts.find_map(quality).unwrap_or(1000);
        if !media_type.is_empty() && best.is_none_or(|(_, highest)| quality > highest) {
            best = Some((media_type, quality));
        }
    }
    best.map(|(media_type, _)| media_type)
}

/// `q=0.25` in thousandths; `None` when the parameter is another or is malformed.
fn quality(parameter: &[u8]) -> Option<u16> {
    let number = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let number: f32 = str::from_utf8(number).ok()?.parse().ok()?;
    (0.0..=1.0).contains(&number).then(|| (number * 1000.0).round() as u16)
}

fn html(message: &str, id: &str) -> String {
    format!(
        "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  \
         <body>\n    <h1>Error</h1>\n    <p>{message}.</p>\n    <p>request_id: {id}</p>\n  </body>\n</html>\n"
    )
}

/// In ascending order of status.
#[rustfmt::skip]
static DEFAULTS: &[(u16, &str)] = &[
    (400, "Bad request"),
    (401, "Unauthorized"),
    (402, "Payment required"),
    (403, "Forbidden"),
    (404, "Not found"),
    (405, "Method not allowed"),
    (406, "Not acceptable"),
    (407, "Proxy authentication required"),
    (408, "Request timeout"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "Length required"),
    (412, "Precondition failed"),
    (413, "Payload too large"),
    (414, "URI too long"),
    (415, "Unsupported media type"),
    (416, "Range not satisfiable"),
    (417, "Expectation failed"),
    (418, "I'm a teapot"),
    (421, "Misdirected request"),
    (422, "Unprocessable entity"),
    (423, "Locked"),
    (424, "Failed dependency"),
    (425, "Too early"),
    (426, "Upgrade required"),
    (428, "Precondition required"),
    (429, "Too many requests"),
    (431, "Request header fields too large"),
    (451, "Unavailable for legal reasons"),
    (494, "Request header or cookie too large"),
    (500, "An unexpected error occurred"),
    (501, "Not implemented"),
    (502, "An invalid response was received from the upstream server"),
    (503, "The upstream server is currently unavailable"),
    (504, "The upstream server is timing out"),
    (505, "HTTP version not supported"),
    (506, "Variant also negotiates"),
    (507, "Insufficient storage"),
    (508, "Loop detected"),
    (510, "Not extended"),
    (511, "Network authentication required"),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: RequestId = RequestId(*b"0123456789abcdef0123456789abcdef");

    fn check(producer: Producer, accept: &[&str], content_type: Option<&str>, expected: Format) {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        if let Some(stated) = content_type {
            headers.insert(CONTENT_TYPE, stated.parse().unwrap());
        }
        let chosen = Format::choose(producer, &headers, "text/plain");
        assert_eq!(chosen, expected, "{producer:?} {accept:?} {content_type:?}");
    }

    #[test]
    fn gateway_errors_follow_accept_alone() {
        check(Producer::Gateway, &[], None, Format::Json);
        check(Producer::Gateway, &[], Some("text/html"), Format::Json);
        for (accept, expected) in [
            ("application/json", Format::Json),
            ("application/*", Format::Json),
            ("*/*", Format::Json),
            ("text/xml", Format::Json),
            ("nonsense", Format::Json),
            ("TEXT/html", Format::Html),
            ("application/xml", Format::Xml),
            ("text/plain", Format::Plain),
            ("text/*", Format::Plain),
            ("application/grpc", Format::Grpc),
        ] {
            check(Producer::Gateway, &[accept], None, expected);
        }
    }

    #[test]
    fn server_errors_also_look_at_the_content_type_and_the_default() {
        check(Producer::Server, &[], None, Format::Plain);
        check(Producer::Server, &[], Some("application/json"), Format::Json);
        check(Producer::Server, &[], Some("application/xml"), Format::Xml);
        check(Producer::Server, &[], Some("text/html; charset=x"), Format::Html);
        check(Producer::Server, &["text/plain"], Some("text/html"), Format::Plain);
        check(Producer::Server, &["*/*"], None, Format::Json);
    }

    #[test]
    fn the_highest_quality_wins_and_the_first_of_equals() {
        check(Producer::Gateway, &["text/html;q=0.3, text/plain;q=0.9, application/json;q=0.5"], None, Format::Plain);
        check(Producer::Gateway, &["text/html, application/xml;q=0.9, */*;q=0.8"], None, Format::Html);
        check(Producer::Gateway, &["application/json;q=0.1, application/xml"], None, Format::Xml);
        check(Producer::Gateway, &["text/plain;q=0.2", "text/html;q=0.6"], None, Format::Html);
        check(Producer::Gateway, &["text/html;q=0.5,text/plain;q=0.5"], None, Format::Html);
        check(Producer::Gateway, &["text/html;q=7, text/plain;q=x"], None, Format::Html);
    }

    #[test]
    fn bodies_are_kongs_byte_for_byte() {
        let body = |format: Format| format.render("no Route", &ID);
        let id = ID.as_str();
        assert_eq!(body(Format::Json), format!("{{\n  \"message\":\"no Route\",\n  \"request_id\":\"{id}\"\n}}"));
        assert_eq!(body(Format::Plain), format!("no Route\nrequest_id: {id}\n"));
        assert_eq!(
            body(Format::Xml),
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>no Route</message>\n  <requestid>{id}</requestid>\n</error>\n"
            )
        );
        assert!(body(Format::Html).starts_with("<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n"));
        assert!(body(Format::Html).ends_with(&format!("<p>request_id: {id}</p>\n  </body>\n</html>\n")));
        assert!(body(Format::Html).contains("    <p>no Route.</p>\n"));
    }

    #[test]
    fn every_status_has_a_message() {
        assert!(DEFAULTS.is_sorted_by_key(|(status, _)| *status));
        assert_eq!(default_message(494), "Request header or cookie too large");
        assert_eq!(default_message(404), "Not found");
        assert_eq!(default_message(599), "The upstream server responded with 599");
    }
}
