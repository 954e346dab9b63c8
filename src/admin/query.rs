//! Arguments of a query string, and what lists make of them.
//!
//! Kong: the first of repeated arguments counts, unknown ones are ignored, more than a thousand are refused.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entity::problem::Rejection;

/// Arguments of one query or one form; more are refused.
pub(crate) const ARGUMENTS_MAX: usize = 1000;

const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: f64 = 1000.0;

const OFFSETS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a query value keeps as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A decoded query string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// More arguments than anybody needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, TooMany> {
        let text = text.unwrap_or_default();
        if text.split('&').count() > ARGUMENTS_MAX {
            return Err(TooMany);
        }
        Ok(Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }

    /// The first value of an argument; an argument without `=` has an empty one.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `1`, `true`, `on` and `yes` switch an argument on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.first(name).is_some_and(is_on)
    }

    /// Entities of a page.
    pub(crate) fn size(&self) -> Result<usize, Rejection> {
        let Some(text) = self.first("size") else { return Ok(SIZE_DEFAULT) };
        let refuse = |message: &str| Rejection::InvalidSize { message: message.to_owned() };
        let number: f64 = text.trim().parse().map_err(|_| refuse("size must be a number"))?;
        if number.fract() != 0.0 || !(1.0..=SIZE_MAX).contains(&number) {
            return Err(refuse("size must be an integer between 1 and 1000"));
        }
        Ok(number as usize)
    }

    /// Where a page begins, as `encode_offset` wrote it.
    pub(crate) fn offset<T: DeserializeOwned>(&self) -> Result<Option<T>, Rejection> {
        let Some(text) = self.first("offset") else { return Ok(None) };
        let refuse = |why: &str| Rejection::InvalidOffset { offset: text.to_owned(), why: why.to_owned() };
        let bytes = OFFSETS.decode(text).map_err(|_| refuse("bad base64 encoding"))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| refuse("bad json encoding"))
    }
}

pub(crate) fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes")
}

/// An opaque position: unpadded base64 of a JSON array, as Kong writes it.
pub(crate) fn encode_offset(position: &impl Serialize) -> String {
    OFFSETS.encode(serde_json::to_vec(position).unwrap_or_default())
}

/// `PATH?name=value&…` of the arguments that have a value.
pub(crate) fn link(path: &str, arguments: &[(&str, Option<&str>)]) -> String {
    let mut link = path.to_owned();
    let mut separator = '?';
    for (name, value) in arguments {
        let Some(value) = value else { continue };
        link.push(separator);
        link.push_str(name);
        link.push('=');
        link.extend(utf8_percent_encode(value, PLAIN));
        separator = '&';
    }
    link
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text)).unwrap()
    }

    #[test]
    fn the_first_of_repeated_arguments_counts() {
        assert_eq!(query("tags=a&tags=b").first("tags"), Some("a"));
        assert_eq!(query("tags").first("tags"), Some(""));
        assert_eq!(query("tags=a%20b+c").first("tags"), Some("a b c"));
        assert_eq!(query("").first("tags"), None);
    }

    #[test]
    fn a_thousand_arguments_are_enough() {
        let of = |count: usize| vec!["a=1"; count].join("&");
        assert!(Query::parse(Some(&of(1000))).is_ok());
        assert_eq!(Query::parse(Some(&of(1001))).err(), Some(TooMany));
    }

    #[test]
    fn a_size_is_a_whole_number_from_1_to_1000() {
        let check = |text: &str, expected: Result<usize, &str>| {
            let got = query(&format!("size={text}")).size();
            let expected = expected.map_err(|message| Rejection::InvalidSize { message: message.to_owned() });
            assert_eq!(got, expected, "size={text}");
        };
        check("1", Ok(1));
        check("1000", Ok(1000));
        for text in ["0", "1001", "-1", "1.5", "inf"] {
            check(text, Err("size must be an integer between 1 and 1000"));
        }
        for text in ["", "ten", "1x"] {
            check(text, Err("size must be a number"));
        }
        assert_eq!(query("").size(), Ok(100));
    }

    #[test]
    fn an_offset_comes_back_as_it_went() {
        let id = Uuid::from_u128(7);
        let text = encode_offset(&[id]);
        let back: Option<[Uuid; 1]> = query(&link("", &[("offset", Some(&text))])[1..]).offset().unwrap();
        assert_eq!(back, Some([id]));
    }

    #[test]
    fn a_made_up_offset_is_refused_with_the_reason() {
        let why = |text: &str| match query(text).offset::<[Uuid; 1]>() {
            Err(Rejection::InvalidOffset { why, .. }) => why,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(why("offset=not*valid"), "bad base64 encoding");
        assert_eq!(why("offset="), "bad json encoding");
        assert_eq!(why("offset=WyJ4Il0"), "bad json encoding");
    }

    #[test]
    fn a_link_carries_only_what_was_used() {
        assert_eq!(
            link("/services", &[("offset", Some("a+/=")), ("tags", None), ("size", Some("3"))]),
            "/services?offset=a%2B%2F%3D&size=3"
        );
    }
}
