//! What a request gives under a name: in its headers, its query, its body.
//!
//! Queries are read as Kong reads them: form decoding, names in any number, arguments without a value. Nothing is
//! collected into a map: a lookup scans the text, which the size of a request's head bounds.

use std::borrow::Cow;

use http::HeaderValue;
use percent_encoding::percent_decode;

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    Nothing,
    /// Something that is no text: an argument without `=`, a number in JSON.
    NoText,
    Text(Cow<'a, [u8]>),
    /// More than one value, or a list.
    Several,
}

impl<'a> Given<'a> {
    /// Of the values found, in order.
    pub fn among(mut values: impl Iterator<Item = Given<'a>>) -> Self {
        let first = values.next().unwrap_or(Given::Nothing);
        if values.next().is_some() { Given::Several } else { first }
    }

    /// This, or what `other` finds when this is nothing.
    pub fn or_else(self, other: impl FnOnce() -> Given<'a>) -> Self {
        match self {
            Given::Nothing => other(),
            Given::NoText | Given::Text(_) | Given::Several => self,
        }
    }
}

/// What the values of a header hold.
pub fn in_headers<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Given<'a> {
    Given::among(values.map(|value| Given::Text(Cow::Borrowed(value.as_bytes()))))
}

/// What a query string or a form body holds under `name`.
pub fn in_form<'a>(form: &'a [u8], name: &str) -> Given<'a> {
    let named = raw_arguments(form).filter(|(found, _)| decode(found).as_ref() == name.as_bytes());
    Given::among(named.map(|(_, value)| value.map_or(Given::NoText, |value| Given::Text(decode(value)))))
}

/// The form without what is called `name`, written anew: the rest keeps its order and gets the standard encoding.
pub fn form_without(form: &[u8], name: &str) -> String {
    let mut rest = String::with_capacity(form.len());
    for (found, value) in raw_arguments(form) {
        let found = decode(found);
        if found.as_ref() == name.as_bytes() {
            continue;
        }
        if !rest.is_empty() {
            rest.push('&');
        }
        rest.extend(form_urlencoded::byte_serialize(&found));
        rest.push('=');
        rest.extend(form_urlencoded::byte_serialize(&decode(value.unwrap_or_default())));
    }
    rest
}

/// The decoded arguments of a query string or a form body, in order; no value for one without `=`. Arguments without a
/// name are left out.
pub fn arguments(form: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Option<Cow<'_, [u8]>>)> {
    raw_arguments(form).map(|(name, value)| (decode(name), value.map(decode)))
}

/// Names and values as they stand; without `=` no value. Arguments without a name are none.
fn raw_arguments(form: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let parts = form.split(|byte| *byte == b'&');
    let pairs = parts.map(|part| match part.iter().position(|byte| *byte == b'=') {
        Some(at) => (&part[..at], Some(&part[at + 1..])),
        None => (part, None),
    });
    pairs.filter(|(name, _)| !name.is_empty())
}

/// `+` is a space, `%41` an `A`, and what is no escape stays.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;

    fn text(value: &str) -> Given<'_> {
        Given::Text(Cow::Borrowed(value.as_bytes()))
    }

    #[test]
    fn queries_are_read_as_forms() {
        let check = |query: &str, expected: Given| assert_eq!(in_form(query.as_bytes(), "k"), expected, "{query}");
        check("", Given::Nothing);
        check("kk=1&j=2", Given::Nothing);
        check("K=1", Given::Nothing);
        check("k=", text(""));
        check("k", Given::NoText);
        check("a=1&k=v&b", text("v"));
        check("%6b=a%20b+c%zz%4", text("a b c%zz%4"));
        check("k=a=b", text("a=b"));
        check("k=1&k=1", Given::Several);
        check("k&k=1", Given::Several);
        check("&&=x&k=v", text("v"));
    }

    #[test]
    fn a_rewritten_form_keeps_its_order_in_the_standard_encoding() {
        let check = |query: &str, expected: &str| assert_eq!(form_without(query.as_bytes(), "k"), expected, "{query}");
        check("a=%20b&k=secret&c", "a=+b&c=");
        check("k=secret", "");
        check("b=1&a=2&b=3", "b=1&a=2&b=3");
        check("x=~&%6B=1&y=%7e%2F", "x=%7E&y=%7E%2F");
        check("x=%ff", "x=%FF");
        check("&&=1&x", "x=");
    }

    #[test]
    fn headers_are_counted() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("apikey");
        assert_eq!(in_headers(headers.get_all(&name).iter()), Given::Nothing);
        headers.append(&name, http::HeaderValue::from_static("v"));
        assert_eq!(in_headers(headers.get_all(&name).iter()), text("v"));
        headers.append(&name, http::HeaderValue::from_static("v"));
        assert_eq!(in_headers(headers.get_all(&name).iter()), Given::Several);
    }

    proptest::proptest! {
        #[test]
        fn whatever_was_sent_only_the_name_is_gone(form in proptest::collection::vec("[k=&%+6bB ~\u{0}-\u{ff}]{0,12}", 0..6)) {
            let form = form.join("&");
            let rewritten = form_without(form.as_bytes(), "k");
            let rest = |form: &str| -> Vec<(Vec<u8>, Vec<u8>)> {
                let pairs = raw_arguments(form.as_bytes());
                let pairs = pairs.map(|(name, value)| (decode(name), decode(value.unwrap_or_default())));
                pairs.filter(|(name, _)| **name != *b"k").map(|(a, b)| (a.into_owned(), b.into_owned())).collect()
            };
            assert_eq!(in_form(rewritten.as_bytes(), "k"), Given::Nothing);
            assert_eq!(rest(&rewritten), rest(&form));
        }
    }
}
