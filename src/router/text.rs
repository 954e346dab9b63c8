//! Texts that tables are keyed by: what is compared stands beside what it leads to.
//!
//! A name or prefix of up to 30 bytes is kept in place, so that with what it leads to it fills one line of the cache: a
//! find among many routes costs about as much as the lines that it has to fetch. A vector with room for some bytes lost:
//! its length and its place for a pointer take a third of the line.

use std::ops::Deref;

/// Bytes that are kept in place.
const SHORT: usize = 30;

/// A text that does not change.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

impl Text {
    pub(crate) fn of(text: &[u8]) -> Text {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text);
                Text::Short { len, bytes }
            }
            _ => Text::Long(text.into()),
        }
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Text::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_lengths_are_kept_as_they_are() {
        let text: Vec<u8> = (0..100).collect();
        for len in 0..=text.len() {
            assert_eq!(*Text::of(&text[..len]), text[..len]);
        }
        assert_eq!(size_of::<Text>(), 32);
    }
}
