//! What a reader made of a case, in a form that both readers share.

use http::{HeaderMap, Version};

/// A message, or why there is none.
pub type Outcome = Result<Box<Message>, String>;

/// A message as a reader understood it.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub first: FirstLine,
    pub version: Version,
    /// Lower-case names and values, sorted by name; the values of one name keep their order.
    pub headers: Vec<(String, Bytes)>,
    pub body: Bytes,
    /// Fields that may stand in trailers, as `headers`.
    pub trailers: Vec<(String, Bytes)>,
    /// Bytes from the beginning of the case to the end of the message.
    pub consumed: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum FirstLine {
    Request { method: String, path: Bytes, query: Option<Bytes>, authority: Option<Bytes> },
    Response { status: u16, reason: Bytes },
}

/// Bytes that are shown as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

/// What two outcomes can differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// hyper accepts the message and `http1` rejects it.
    OnlyHyperAccepts,
    /// `http1` accepts the message and hyper rejects it.
    OnlyOursAccepts,
    FirstLine,
    Version,
    Headers,
    Body,
    Trailers,
    Consumed,
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// The fields of a map, as `Message::headers`.
pub fn fields(map: &HeaderMap) -> Vec<(String, Bytes)> {
    let mut fields: Vec<_> =
        map.iter().map(|(name, value)| (name.as_str().to_owned(), Bytes::from(value.as_bytes()))).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// In what the outcomes differ.
pub fn differing(ours: &Outcome, theirs: &Outcome) -> Vec<Aspect> {
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(_), Err(_)) => return Vec::new(),
        (Err(_), Ok(_)) => return vec![Aspect::OnlyHyperAccepts],
        (Ok(_), Err(_)) => return vec![Aspect::OnlyOursAccepts],
    };
    let aspects = [
        (Aspect::FirstLine, ours.first == theirs.first),
        (Aspect::Version, ours.version == theirs.version),
        (Aspect::Headers, ours.headers == theirs.headers),
        (Aspect::Body, ours.body == theirs.body),
        (Aspect::Trailers, ours.trailers == theirs.trailers),
        (Aspect::Consumed, ours.consumed == theirs.consumed),
    ];
    aspects.into_iter().filter(|(_, is_same)| !is_same).map(|(aspect, _)| aspect).collect()
}
