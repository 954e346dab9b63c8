//! How members are read when whoever wrote them may be lying: a length is refused before memory is asked for.
//!
//! Strings and byte strings are borrowed from the input first, so a forged length finds nothing to borrow. Sequences
//! start small and grow as elements arrive. serde's own readers lost: bincode allocates what a string's length says, and
//! reads a `Vec<u8>` byte by byte.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::more::More;
use crate::sizes::{FRAME_LEN_MAX, MORE_MAX, NAME_LEN_MAX, ORIGINS_MAX, SPANS_MAX, TEXT_LEN_MAX};

/// Elements that a sequence has room for before the first one was read.
const ROOM: usize = 16;

pub fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    from.deserialize_str(Text { len_max: NAME_LEN_MAX }).map(str::to_owned)
}

pub fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    from.deserialize_str(Text { len_max: TEXT_LEN_MAX }).map(str::to_owned)
}

pub fn optional_document<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Document>::deserialize(from)?.map(|Document(text)| text))
}

pub fn cursor<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(String, [u8; 16])>, D::Error> {
    Ok(Option::<Cursor>::deserialize(from)?.map(|Cursor(kind, id)| (kind, id)))
}

pub fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    from.deserialize_bytes(Bytes).map(<[u8]>::to_vec)
}

/// The same bytes that a sequence of u8 has, at once.
pub fn write_bytes<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

pub fn more<'de, D: Deserializer<'de>>(from: D) -> Result<More, D::Error> {
    let members: Vec<Member> = sequence(from, MORE_MAX)?;
    Ok(members.into_iter().map(|Member(number, value)| (number, value)).collect())
}

/// At most `SPANS_MAX` elements.
pub fn spans<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    sequence(from, SPANS_MAX)
}

/// As many elements as a frame's length allows: each takes at least one byte.
pub fn elements<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    sequence(from, FRAME_LEN_MAX)
}

/// Names ascend and no count is 0, so that equal vectors are equal bytes.
pub fn counts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, u64>, D::Error> {
    from.deserialize_map(Counts)
}

pub fn write_counts<S: Serializer>(counts: &BTreeMap<String, u64>, to: S) -> Result<S::Ok, S::Error> {
    let present = || counts.iter().filter(|(_, count)| **count > 0);
    let mut map = to.serialize_map(Some(present().count()))?;
    for (origin, count) in present() {
        map.serialize_entry(origin, count)?;
    }
    map.end()
}

/// The additional members of a frame that keeps none: none are written, and those that came are read and dropped.
pub struct Unnamed;

impl Serialize for Unnamed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        More::new().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Unnamed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ascend = more(from)?.is_sorted_by(|(a, _), (b, _)| a < b);
        if ascend { Ok(Self) } else { Err(D::Error::custom("additional members are not in order")) }
    }
}

#[derive(Deserialize)]
struct Document(#[serde(deserialize_with = "document")] String);

#[derive(Deserialize)]
struct Cursor(#[serde(deserialize_with = "name")] String, [u8; 16]);

#[derive(Deserialize)]
struct Member(u16, #[serde(deserialize_with = "bytes")] Vec<u8>);

/// A string of the input, at most so long.
struct Text {
    len_max: usize,
}

impl<'de> Visitor<'de> for Text {
    type Value = &'de str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string of at most {} bytes", self.len_max)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<&'de str, E> {
        if text.len() > self.len_max { Err(E::invalid_length(text.len(), &self)) } else { Ok(text) }
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = &'de [u8];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<&'de [u8], E> {
        Ok(bytes)
    }
}

/// A sequence of at most so many elements.
struct Sequence<T> {
    count_max: usize,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Sequence<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a sequence of at most {} elements", self.count_max)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let count = from.size_hint().unwrap_or(usize::MAX);
        if count > self.count_max {
            return Err(A::Error::invalid_length(count, &self));
        }
        let mut elements = Vec::with_capacity(count.min(ROOM));
        while let Some(element) = from.next_element()? {
            elements.push(element);
        }
        Ok(elements)
    }
}

struct Counts;

impl<'de> Visitor<'de> for Counts {
    type Value = BTreeMap<String, u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {ORIGINS_MAX} origins in ascending order, none with 0")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let count = from.size_hint().unwrap_or(usize::MAX);
        if count > ORIGINS_MAX {
            return Err(A::Error::invalid_length(count, &self));
        }
        let mut counts = BTreeMap::new();
        while let Some((Name(origin), count)) = from.next_entry()? {
            let ascends = counts.last_key_value().is_none_or(|(last, _)| *last < origin);
            if !ascends || count == 0 {
                return Err(A::Error::custom(&self as &dyn serde::de::Expected));
            }
            counts.insert(origin, count);
        }
        Ok(counts)
    }
}

#[derive(Deserialize)]
struct Name(#[serde(deserialize_with = "name")] String);

fn document<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    from.deserialize_str(Text { len_max: FRAME_LEN_MAX }).map(str::to_owned)
}

fn sequence<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D, count_max: usize) -> Result<Vec<T>, D::Error> {
    from.deserialize_seq(Sequence { count_max, element: PhantomData })
}
